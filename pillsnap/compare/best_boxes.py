"""Records of a detector that needs no NMS, and gives the best boxes of its one-to-one head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare import noise
from pillsnap.compare.exactness import Exact, PartError
from pillsnap.compare.final_boxes import FinalBoxRecorder, Pairs, Rows
from pillsnap.compare.matching import Matches
from pillsnap.compare.row_pairs import farthest, in_order_of, nearest_rows
from pillsnap.config.settings import Nms
from pillsnap.engines import Batch


class BestBoxRecorder(FinalBoxRecorder):
    """FinalBoxRecorder's columns of a candidate that gives the best rows [N,K,6] whatever their
    score. Below the threshold they are no boxes, and left out on both sides. Their errors count:
    they are held to as many of the reference's best, but for those that rounding may have chosen.
    """

    def __init__(self, strides: Sequence[int], shape: tuple[int, int], params: Nms) -> None:
        super().__init__(strides, shape, params)
        self._least = self._nms.conf_threshold

    def _pairs(self, match: Matches, ref: Rows, cand: Rows) -> Pairs:
        boxes = super()._pairs(match, ref, cand)
        anchors = _best(ref[0], np.arange(len(ref[0])), boxes.anchors)
        rows = _best(cand[0], self._finite(cand[0]), boxes.rows)
        count = min(len(anchors), len(rows))
        anchors, rows = anchors[:count], rows[:count]
        rows = rows[nearest_rows(ref[0][anchors], cand[0][rows])]
        kept = ~self._chosen_by_chance(ref[0][anchors], cand[0][rows])
        anchors = np.concatenate([boxes.anchors, anchors[kept]])
        return Pairs(anchors, np.concatenate([boxes.rows, rows[kept]]), self._stride_of(anchors))

    def _chosen_by_chance(self, ours: Batch, theirs: Batch) -> NDArray[np.bool_]:
        """Pairs of rows [P,6+] whose scores are within noise of the last."""
        scores: Batch = np.maximum(ours[:, 4], theirs[:, 4])
        last = scores.min(initial=np.inf)
        return np.asarray(scores <= last + np.float32(noise.SCORE))

    def _in_play(self, rows: Batch, pairs: Pairs) -> NDArray[np.int64]:
        return pairs.anchors


class BestQueryRecorder(BestBoxRecorder):
    """The same of boxes that are of queries."""

    def errors(self, exact: Exact, ref: Batch, cand: Batch) -> list[PartError]:
        return super().errors(in_order_of(ref, exact), ref, cand)

    def _chosen_by_chance(self, ours: Batch, theirs: Batch) -> NDArray[np.bool_]:
        """And the few pairs that are farthest apart: queries are chosen by scores not given."""
        return super()._chosen_by_chance(ours, theirs) | farthest(ours, theirs)


def _best(
    rows: NDArray[Any], among: NDArray[np.int64], without: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Indices of rows [A,6+] by falling score, of some and without others."""
    left = np.setdiff1d(among, without)
    return left[np.argsort(-rows[left, 4], kind="stable")]
