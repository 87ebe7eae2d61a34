"""The one comparison of a figure with its limit."""

from __future__ import annotations

import math

# Relative, and more than a few roundings come to: 0.91 - 0.90 is five units in the last place above
# 0.01, and a limit of 0.001 may be missed by ten times as many.
ROUNDING = 1e-12


def exceeds(value: float, limit: float) -> bool:
    """Whether a figure is above its limit, by more than binary rounding; above 0 is any, and what
    is no number is above all."""
    return not value <= limit and not math.isclose(value, limit, rel_tol=ROUNDING)
