"""Which rows of two answers to an image are one box, where their order says nothing: rows that are
best by scores which rounding changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare import noise
from pillsnap.engines import Batch

# Part of the rows of an image that may be other ones, and how many at most: of the last that are
# among the best either may be.
_SPARED, _MOST_SPARED = 0.01, 3

# A pairing takes the cube of their number; thousands are of cells, in whose order they come.
_MOST_PAIRED = 1000

# Distances are cut off here, in the noise of boxes and scores: they are summed up.
_FARTHEST = 1e9


def nearest_rows(ref: Batch, other: NDArray[Any]) -> NDArray[np.int64]:
    """For each row of an image [Q,6+] the other side's row [Q,6+] that is its own: each is of one,
    by the least distance of all pairs together."""
    order = np.arange(len(ref), dtype=np.int64)
    moved = np.flatnonzero(_apart(ref, other) > 1)
    if 0 < len(moved) <= _MOST_PAIRED:
        order[moved] = moved[_assigned(ref[moved], other[moved])]
    return order


def in_order_of(ref: Batch, other: NDArray[Any]) -> NDArray[Any]:
    """Rows [N,Q,6+] of each image where the rows [N,Q,7] are that they are nearest to."""
    return np.stack([b[nearest_rows(a, b)] for a, b in zip(ref, other, strict=True)])


def farthest(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """The few pairs of an image [Q] that are farthest apart, of rows [Q,6+] at the same places."""
    apart = _apart(one, other)
    count = min(int(len(apart) * _SPARED), _MOST_SPARED)
    found = np.zeros(len(apart), bool)
    found[np.argsort(apart)[len(apart) - count :]] = True
    return found


def _apart(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """How far rows at the same places are apart, in the noise of boxes and scores: [Q], the largest
    of their numbers; infinite where one is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.abs(_in_noise(other) - _in_noise(one)).max(axis=-1)
    return np.asarray(np.where(np.isnan(found), np.inf, found))


def _in_noise(rows: NDArray[Any]) -> NDArray[np.float64]:
    units = np.array([noise.BOX_PX] * 4 + [noise.SCORE])
    return np.asarray(rows[..., :5].astype(np.float64) / units)


def _assigned(ours: Batch, theirs: NDArray[Any]) -> NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    sides = (np.nan_to_num(_in_noise(side)).clip(-_FARTHEST, _FARTHEST) for side in (ours, theirs))
    _, columns = linear_sum_assignment(cdist(*sides, metric="cityblock"))
    return np.asarray(columns, np.int64)
