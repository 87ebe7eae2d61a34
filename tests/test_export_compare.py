"""The gate, collected as any repository does it."""

from __future__ import annotations

from pillsnap.testing import test_equivalence

__all__ = ["test_equivalence"]
