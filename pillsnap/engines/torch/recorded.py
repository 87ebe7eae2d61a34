"""What training wrote into a checkpoint beside the weights: arguments, and how good it became."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pillsnap.engines.torch.torchfile import entries_of


def training_arguments(content: object) -> Mapping[str, Any]:
    """The command line of timm's trainer by name: `args`, a Namespace or a dict; else nothing."""
    return entries_of(entries_of(content).get("args"))


def recorded_top1(content: object) -> float | None:
    """Top-1, 0 to 1, that timm's trainer measured: `metric`, where its arguments say that top-1 was
    what it went by. Else None: a loss or an accuracy of other trainers stand there as well."""
    if training_arguments(content).get("eval_metric") != "top1":
        return None
    percent = _number(entries_of(content).get("metric"))
    return None if percent is None else _rate(percent / 100)


def recorded_map(content: object) -> float | None:
    """mAP@0.5:0.95, 0 to 1, that ultralytics' trainer measured; None where it did not say."""
    measured = entries_of(entries_of(content).get("train_metrics"))
    number = _number(measured.get("metrics/mAP50-95(B)"))
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
