"""Records of a detector whose boxes are of queries, as of an RT-DETR, and not of cells.

Queries are those places of an image that its encoder has the best scores of, in that order: of two
whose scores rounding alone tells apart either may come first, and of the last either may be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare import noise
from pillsnap.compare.detection import DetectionRecorder
from pillsnap.compare.exactness import Exact, PartError
from pillsnap.compare.final_boxes import FinalBoxRecorder
from pillsnap.compare.records import Columns
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch
from pillsnap.pipeline.transforms import Geometry

# Part of the queries of an image that may be other ones, and how many at most.
_SPARED, _MOST_SPARED = 0.01, 3

# A pairing takes the cube of their number; thousands are of cells, in whose order they come.
_MOST_PAIRED = 1000

# Distances are cut off here, in the noise of boxes and scores: they are summed up.
_FARTHEST = 1e9


class QueryRecorder(DetectionRecorder):
    """DetectionRecorder's columns of rows that are paired one to one, by the least distance of all
    pairs together, and not by their places. Raw errors are without those of the few pairs that are
    farthest apart, whose boxes after NMS count as all do."""

    def errors(self, exact: Exact, ref: Batch, cand: Batch) -> list[PartError]:
        right, cand = _in_order_of(ref, exact), _in_order_of(ref, cand)
        kept = ~(_farthest(ref, right) | _farthest(cand, right))
        return super().errors(right[kept][None], ref[kept][None], cand[kept][None])

    def columns(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], ref: Batch, cand: Batch
    ) -> Columns:
        return super().columns(samples, geometries, ref, _in_order_of(ref, cand))

    def _raw_columns(self, ref: Batch, cand: Batch) -> Columns:
        spared = _farthest(ref, cand)[..., None]
        return super()._raw_columns(ref, np.where(spared, ref[..., :6], cand))


class FinalQueryRecorder(FinalBoxRecorder):
    """FinalBoxRecorder's columns of a candidate that gives the best of the queries' boxes."""

    def errors(self, exact: Exact, ref: Batch, cand: Batch) -> list[PartError]:
        return super().errors(_in_order_of(ref, exact), ref, cand)


def _apart(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """How far rows [N,Q,6+] at the same places are apart, in the noise of boxes and scores: [N,Q],
    the largest of their numbers; infinite where one is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.abs(_in_noise(other) - _in_noise(one)).max(axis=-1)
    return np.asarray(np.where(np.isnan(found), np.inf, found))


def _in_noise(rows: NDArray[Any]) -> NDArray[np.float64]:
    units = np.array([noise.BOX_PX] * 4 + [noise.SCORE])
    return np.asarray(rows[..., :5].astype(np.float64) / units)


def _farthest(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """The few pairs [N,Q] of each image that are farthest apart."""
    apart = _apart(one, other)
    count = min(int(apart.shape[1] * _SPARED), _MOST_SPARED)
    found = np.zeros(apart.shape, bool)
    if count:
        np.put_along_axis(found, np.argsort(apart, axis=1)[:, -count:], True, axis=1)
    return found


def _in_order_of(ref: Batch, other: NDArray[Any]) -> NDArray[Any]:
    """Rows [N,Q,6+] of each image where the rows [N,Q,7] are that they are nearest to."""
    found = other.copy()
    for index, moved in enumerate(_apart(ref, other) > 1):
        if 0 < moved.sum() <= _MOST_PAIRED:
            theirs = other[index, moved]
            found[index, moved] = theirs[_nearest(ref[index, moved], theirs)]
    return found


def _nearest(ours: Batch, theirs: NDArray[Any]) -> NDArray[np.int64]:
    """For each of [K,6+] the row of the other side that is its own."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    sides = (np.nan_to_num(_in_noise(side)).clip(-_FARTHEST, _FARTHEST) for side in (ours, theirs))
    _, columns = linear_sum_assignment(cdist(*sides, metric="cityblock"))
    return np.asarray(columns, np.int64)
