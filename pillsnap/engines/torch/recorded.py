"""What training wrote into a checkpoint about how good the model is."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any


def recorded_top1(content: object) -> float | None:
    """Top-1, 0 to 1, that timm's trainer measured: `metric`, where its arguments say that top-1 was
    what it went by. Else None: a loss or an accuracy of other trainers stand there as well."""
    held = content if isinstance(content, Mapping) else {}
    arguments = held.get("args")
    entries = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    if not isinstance(entries, Mapping) or entries.get("eval_metric") != "top1":
        return None
    percent = _number(held.get("metric"))
    return None if percent is None else _rate(percent / 100)


def recorded_map(content: object) -> float | None:
    """mAP@0.5:0.95, 0 to 1, that ultralytics' trainer measured; None where it did not say."""
    measured = content.get("train_metrics") if isinstance(content, Mapping) else None
    found = measured.get("metrics/mAP50-95(B)") if isinstance(measured, Mapping) else None
    number = _number(found)
    return None if number is None else _rate(number)


def _number(value: Any) -> float | None:
    """A float of a number of Python, numpy or torch; None of anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def _rate(value: float) -> float | None:
    # An average that was not trained, or a run of no epoch, has 0.
    return value if 0 < value <= 1 else None
