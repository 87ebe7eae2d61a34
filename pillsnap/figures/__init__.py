"""Records -> figures of a cell. Pure: columns in, numbers out, the same for any sharding.

Sums go through math.fsum and quantiles see the whole column, so the order and the cut of the shards
cannot change a digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """The figures of a cell.

    Attributes:
        metrics: plain builtins by name; None where a figure does not exist.
        no_signal: why the reference has nothing to compare, or None where it has.
        worst: sample ids with the largest drift, worst first.
    """

    metrics: Metrics
    no_signal: str | None
    worst: tuple[str, ...]


def mean(values: NDArray[Any]) -> float | None:
    """Exactly rounded mean; None without values."""
    return math.fsum(values.tolist()) / len(values) if len(values) else None


def quantile(values: NDArray[Any], q: float) -> float | None:
    """Linear-interpolated quantile of the whole column; None without values."""
    return float(np.quantile(values, q)) if len(values) else None


def largest(values: NDArray[Any]) -> float | None:
    return float(values.max()) if len(values) else None


def worst_samples(ids: NDArray[Any], drift: NDArray[Any], count: int = 5) -> tuple[str, ...]:
    """Ids of the `count` samples with the largest drift; ties go to the earlier sample."""
    order = np.argsort(-drift, kind="stable")[:count]
    return tuple(ids[order].tolist())
