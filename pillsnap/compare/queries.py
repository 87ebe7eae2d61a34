"""Records of a detector whose boxes are of queries, as of an RT-DETR, and not of cells.

Queries are those places of an image that its encoder has the best scores of, in that order: of two
whose scores rounding alone tells apart either may come first, and of the last either may be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.detection import DetectionRecorder
from pillsnap.compare.exactness import Exact, PartError
from pillsnap.compare.records import Columns
from pillsnap.compare.row_pairs import farthest, in_order_of
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch
from pillsnap.pipeline.transforms import Geometry


class QueryRecorder(DetectionRecorder):
    """DetectionRecorder's columns of rows that are paired one to one, by the least distance of all
    pairs together, and not by their places. Raw errors are without those of the few pairs that are
    farthest apart, whose boxes after NMS count as all do."""

    def errors(self, exact: Exact, ref: Batch, cand: Batch) -> list[PartError]:
        right, cand = in_order_of(ref, exact), in_order_of(ref, cand)
        kept = ~(_farthest(ref, right) | _farthest(cand, right))
        return super().errors(right[kept][None], ref[kept][None], cand[kept][None])

    def columns(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], ref: Batch, cand: Batch
    ) -> Columns:
        return super().columns(samples, geometries, ref, in_order_of(ref, cand))

    def _raw_columns(self, ref: Batch, cand: Batch) -> Columns:
        spared = _farthest(ref, cand)[..., None]
        return super()._raw_columns(ref, np.where(spared, ref[..., :6], cand))


def _farthest(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """The few pairs [N,Q] of each image that are farthest apart."""
    return np.stack([farthest(a, b) for a, b in zip(one, other, strict=True)])
