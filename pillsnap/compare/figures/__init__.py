"""Records -> figures of a cell. Pure: columns in, numbers out, the same for any sharding.

Sums go through math.fsum and quantiles see the whole column, so the order and the cut of the shards
cannot change a digit. Columns are asked for one at a time and dropped: a cell of a million samples
is judged in the memory of a few of its columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.records import Columns, Records

Metrics = dict[str, Any]

# Classes, and cases of a kind, that are listed.
LISTED = 10

# Values that become Python floats at a time.
_CHUNK = 1 << 16


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
    """Exactly rounded mean of a column [N]; None without values."""
    return total(values) / len(values) if len(values) else None


def total(values: NDArray[Any]) -> float:
    """Exactly rounded sum of a column [N]."""
    chunks = (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))
    return math.fsum(chain.from_iterable(chunk.tolist() for chunk in chunks))


def quantile(values: NDArray[Any], q: float) -> float | None:
    """Linear-interpolated quantile (q from 0 to 1) of the whole column [N]; None without values."""
    return float(np.quantile(values, q)) if len(values) else None


def largest(values: NDArray[Any]) -> float | None:
    return float(values.max()) if len(values) else None


def not_finite(columns: Columns) -> str | None:
    """Why a reference that is not finite somewhere has nothing to compare."""
    broken = int((~columns["ref_finite"]).sum())
    return f"the reference's output is not finite for {broken} samples" if broken else None


def worst_samples(columns: Columns, drift: NDArray[Any], count: int = 5) -> tuple[str, ...]:
    """Ids of the `count` samples with the largest drift [N]; ties go to the earlier sample."""
    return tuple(take(columns, "id", np.argsort(-drift, kind="stable")[:count]))


def take(columns: Columns, name: str, rows: Sequence[int] | NDArray[np.int64]) -> list[Any]:
    """The values of some rows of a column, as Python objects, without reading all of it."""
    if isinstance(columns, Records):
        return columns.take(name, [int(row) for row in rows])
    values: list[Any] = columns[name][rows].tolist()
    return values
