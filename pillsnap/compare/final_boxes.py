"""Records of a detector with an NMS inside, whose boxes are held to those that the reference keeps.

Raw outputs are not to be had: what the columns say of every anchor of others, they say here of the
boxes that both sides have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare import noise
from pillsnap.compare.detection import DetectionRecorder, box_columns, keep_indices, restore
from pillsnap.compare.exactness import Exact, OutputPart, PartError, measure_errors
from pillsnap.compare.matching import Matches, match_boxes
from pillsnap.compare.records import Array, Columns
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch
from pillsnap.pipeline.transforms import Geometry

Rows = tuple[Batch, NDArray[np.int64]]
"""All rows of one side of an image, and indices of those that were matched."""


@dataclass(frozen=True)
class Pairs:
    """The boxes of one image that both sides have.

    Attributes:
        anchors: int64 [P], of the reference.
        rows: int64 [P], of the candidate.
        strides: int64 [P], index of each anchor's.
    """

    anchors: NDArray[np.int64]
    rows: NDArray[np.int64]
    strides: NDArray[np.int64]


class FinalBoxRecorder(DetectionRecorder):
    """DetectionRecorder's columns, of a candidate that gives [N,K,6] after its own NMS, padded
    with zeros. The NMS of the reference has the same thresholds, and is the common one.

    box_err_px and score_err are the largest error over the pairs of each stride; no anchor is known
    to change its class. lost float32: boxes that one side lacks, over the boxes of both.
    """

    drift: Mapping[str, str] = {**DetectionRecorder.drift, "unmatched_rate": "lost"}

    _least = -np.inf
    """The score above which what the candidate gives is a box."""

    def as_candidate(self, output: Batch) -> Batch:
        """What the NMS keeps, padded with zeros to as many as it may keep."""
        rows = np.zeros((len(output), self._nms.max_detections, 6), np.float32)
        for padded, each in zip(rows, output, strict=True):
            kept = keep_indices(each, self._nms)
            padded[: len(kept)] = each[kept, :6]
        return rows

    def as_reference(self, output: Batch, ref: Batch) -> Batch:
        """With the gap of a box that cannot change its class."""
        return np.insert(output, 6, np.inf, axis=-1)

    def errors(self, exact: Exact, ref: Batch, cand: Batch) -> list[PartError]:
        """Of the boxes that both sides have. The reference's own error is of all anchors in play
        before NMS, of scores in all strides: a few values may have next to none by luck."""
        pairs = [self._pair(ours, theirs) for ours, theirs in zip(ref, cand, strict=True)]
        play = [self._in_play(rows, found) for rows, found in zip(ref, pairs, strict=True)]
        strides, own = (
            np.concatenate(each)
            for each in ([p.strides for p in pairs], [self._stride_of(rows) for rows in play])
        )
        anchors, rows = [each.anchors for each in pairs], [each.rows for each in pairs]
        right, ours, theirs = _take(exact, anchors), _take(ref, anchors), _take(cand, rows)
        exact_play, ref_play = _take(exact, play), _take(ref, play)
        found = []
        for index in np.unique(strides):
            for kind, columns, scale, near in (
                ("box", slice(0, 4), 0.0, own == index),
                ("score", slice(4, 5), 0.5, own >= 0),
            ):
                of = strides == index
                sides = (
                    (side[of, columns], self._strides[index]) for side in (right, ours, theirs)
                )
                (error,) = measure_errors(*([OutputPart(kind, *each, scale)] for each in sides))
                wide = ((side[near, columns], None) for side in (exact_play, ref_play, ref_play))
                (whole,) = measure_errors(*([OutputPart(kind, *each, scale)] for each in wide))
                found.append(replace(error, reference=whole.reference))
        return found

    def columns(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], ref: Batch, cand: Batch
    ) -> Columns:
        kept = [keep_indices(rows, self._nms) for rows in ref]
        given = [self._given(rows) for rows in cand]
        ref_boxes = restore(ref, kept, geometries)
        cand_boxes = restore(cand, given, geometries)
        matches = [match_boxes(a, b) for a, b in zip(ref_boxes, cand_boxes, strict=True)]
        both = np.array([len(a) + len(b) for a, b in zip(ref_boxes, cand_boxes, strict=True)])
        found = np.array([2 * len(match.pairs) for match in matches])
        errors = np.zeros((2, len(ref), len(self._strides)), np.float32)
        for index, match in enumerate(matches):
            pairs = self._pairs(match, (ref[index], kept[index]), (cand[index], given[index]))
            ours, theirs = ref[index, pairs.anchors], cand[index, pairs.rows]
            apart = np.abs(theirs[:, :5] - ours[:, :5])
            np.maximum.at(errors[0, index], pairs.strides, apart[:, :4].max(axis=1, initial=0))
            np.maximum.at(errors[1, index], pairs.strides, apart[:, 4])
        return {
            "box_err_px": errors[0],
            "score_err": errors[1],
            "lost": ((both - found) / np.maximum(both, 1)).astype(np.float32),
            "class_flips": np.zeros(len(ref), np.int64),
            "class_flip_gap": np.zeros_like(errors[0]),
            "ref_strides": np.stack([self._count(indices) for indices in kept]),
            "ref_finite": np.isfinite(ref[..., :6]).all(axis=(1, 2)),
            "cand_finite": np.isfinite(cand).all(axis=(1, 2)),
            **box_columns(samples, geometries, ref_boxes, cand_boxes, matches),
        }

    def _pair(self, ref: Batch, cand: Batch) -> Pairs:
        """The pairs of an image's boxes [A,7] and [K,6], in input pixels."""
        kept, given = keep_indices(ref, self._nms), self._given(cand)
        match = match_boxes(ref[kept, :6], cand[given, :6])
        return self._pairs(match, (ref, kept), (cand, given))

    def _in_play(self, rows: Batch, pairs: Pairs) -> NDArray[np.int64]:
        """Indices of the anchors [A,7] whose rounding is the reference's own."""
        return np.flatnonzero(rows[:, 4] > self._nms.conf_threshold)

    def _given(self, rows: Batch) -> NDArray[np.int64]:
        """Indices of the rows [K,6] that are boxes."""
        high = rows[:, 4] > np.float32(self._least)
        return np.intersect1d(self._finite(rows), np.flatnonzero(high))

    def _finite(self, rows: Batch) -> NDArray[np.int64]:
        """Indices of the rows [K,6] that are no padding, which is of zeros."""
        found: NDArray[np.int64] = np.flatnonzero(np.isfinite(rows).all(axis=1) & rows.any(axis=1))
        return found

    def _pairs(self, match: Matches, ref: Rows, cand: Rows) -> Pairs:
        """The pairs of boxes that were matched.

        Args:
            ref, cand: which of two rows that overlap and have one score an NMS keeps is chance: the
                candidate's box is held to the nearest of the reference's that have the score of the
                matched one.
        """
        rows, anchors = cand[1][match.pairs[:, 1]], ref[1][match.pairs[:, 0]].copy()
        for index, (row, anchor) in enumerate(zip(rows, anchors, strict=True)):
            box, kept = cand[0][row, :4], ref[0][anchor]
            if np.abs(box - kept[:4]).max() > noise.BOX_PX:
                tied = np.abs(ref[0][:, 4] - kept[4]) <= noise.SCORE
                tied = np.flatnonzero(tied & (ref[0][:, 5] == kept[5]))
                apart = np.abs(ref[0][tied, :4] - box).max(axis=1)
                anchors[index] = tied[np.argmin(apart)]
        return Pairs(anchors, rows, self._stride_of(anchors))


def _take(values: Array, indices: Sequence[NDArray[np.int64]]) -> Array:
    """Some rows of every image [N,K,columns], one after the other."""
    return np.concatenate([rows[taken] for rows, taken in zip(values, indices, strict=True)])
