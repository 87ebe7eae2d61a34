"""Records of the detector: raw drift of every anchor by stride, and boxes after the common NMS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare import noise
from pillsnap.compare.exactness import Exact, OutputPart, PartError, measure_errors
from pillsnap.compare.matching import Matches, match_boxes
from pillsnap.compare.records import Array, Columns, ragged
from pillsnap.config.settings import Nms
from pillsnap.core.errors import PillsnapError
from pillsnap.data.datasets import Sample
from pillsnap.data.labels import Box
from pillsnap.engines import Batch
from pillsnap.pipeline.nms import nms
from pillsnap.pipeline.preprocess import unletterbox
from pillsnap.pipeline.transforms import Geometry

# More boxes than any image has.
_ANY = 2**62


class DetectionRecorder:
    """Columns per sample:

    box_err_px and score_err float32 [S], the largest error over the anchors of each stride;
    class_flips int64, anchors that change their class, and class_flip_gap float32 [S], the largest
    gap of the reference's two most probable classes among them; ref_boxes and cand_boxes ragged
    [k,6] (x1,y1,x2,y2 in original pixels, conf, class_id); pairs ragged float64 [p,2], 1 - IoU and
    absolute difference in confidence of every matched pair of them; box_class_flips int64, boxes
    that both sides found and named differently; labelled bool, and truth ragged float64 [g,5]
    (x1,y1,x2,y2 in original pixels, class_id); ref_strides int64 [S], kept boxes of the reference
    by the stride they come from; ref_finite and cand_finite bool. Where either side is not finite
    the errors are nan.
    """

    drift: Mapping[str, str] = {"raw_box_err_px": "box_err_px", "raw_score_err": "score_err"}

    def __init__(self, strides: Sequence[int], shape: tuple[int, int], params: Nms) -> None:
        height, width = shape
        self._strides: Sequence[int | None] = strides or (None,)
        cells = [(height // stride) * (width // stride) for stride in strides]
        # Without strides boxes are of queries, all of one kind, and in any number.
        self._ends = np.cumsum(np.array(cells or [_ANY], np.int64))
        self._starts = np.concatenate([np.zeros(1, np.int64), self._ends[:-1]])
        # Scores within noise of 0 change their order in healthy exports, and so which boxes stay.
        self._nms = replace(params, conf_threshold=max(params.conf_threshold, noise.SCORE))

    def as_candidate(self, output: Batch) -> Batch:
        """The first six columns: the seventh is for references alone."""
        return output[..., :6]

    def as_reference(self, output: Batch, ref: Batch) -> Batch:
        return np.concatenate([output, ref[..., 6:]], axis=-1)

    def errors(self, exact: Exact, ref: Batch, cand: Batch) -> list[PartError]:
        return measure_errors(self.parts(exact), self.parts(ref), self.parts(cand))

    def parts(self, output: NDArray[Any]) -> list[OutputPart]:
        """Boxes and scores of every stride; near ties change class_id in healthy exports.

        Scores are sigmoids, which runtimes compute around a half: ONNX Runtime's is off by 3e-8
        however small they are, torch's is not.
        """
        return [
            OutputPart(kind, output[:, start:end, columns], stride, scale)
            for stride, start, end in zip(self._strides, self._starts, self._ends, strict=True)
            for kind, columns, scale in (("box", slice(0, 4), 0.0), ("score", slice(4, 5), 0.5))
        ]

    def columns(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], ref: Batch, cand: Batch
    ) -> Columns:
        if self._ends[-1] not in (ref.shape[1], _ANY):
            raise PillsnapError(
                "the detector's boxes do not fit its strides",
                got=f"{ref.shape[1]} boxes",
                expected=f"{self._ends[-1]}, one per cell of strides {list(self._strides)}",
                hint="set export.input_shape.detection to multiples of the largest stride",
            )
        kept = [keep_indices(rows, self._nms) for rows in ref]
        ref_boxes = restore(ref, kept, geometries)
        cand_boxes = restore(cand, [keep_indices(rows, self._nms) for rows in cand], geometries)
        matches = [match_boxes(a, b) for a, b in zip(ref_boxes, cand_boxes, strict=True)]
        found: dict[str, Any] = {
            **self._raw_columns(ref, cand),
            "ref_strides": np.stack([self._count(indices) for indices in kept]),
            "ref_finite": np.isfinite(ref[..., :6]).all(axis=(1, 2)),
            "cand_finite": np.isfinite(cand).all(axis=(1, 2)),
            **box_columns(samples, geometries, ref_boxes, cand_boxes, matches),
        }
        return found

    def _raw_columns(self, ref: Batch, cand: Batch) -> Columns:
        """Those of every anchor."""
        with np.errstate(invalid="ignore", over="ignore"):
            box_err = np.abs(cand[..., :4] - ref[..., :4]).max(axis=-1)
            score_err = np.abs(cand[..., 4] - ref[..., 4])
        flips: Any = cand[..., 5] != ref[..., 5]
        return {
            "box_err_px": self._by_stride(box_err),
            "score_err": self._by_stride(score_err),
            # Nearer ties of the reference flip in healthy exports too.
            "class_flips": (flips & (ref[..., 6] > noise.SCORE)).sum(axis=1).astype(np.int64),
            "class_flip_gap": self._by_stride(np.where(flips, ref[..., 6], 0)),
        }

    def _by_stride(self, errors: Batch) -> Batch:
        """[N,A] errors of every anchor -> [N,S], the largest of each stride (nan wins)."""
        largest: Batch = np.maximum.reduceat(errors, self._starts, axis=1)
        return largest

    def _count(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of the kept anchors belong to each stride, [S]."""
        return np.bincount(self._stride_of(indices), minlength=len(self._ends)).astype(np.int64)

    def _stride_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which stride each anchor belongs to, by its index."""
        found: NDArray[np.int64] = np.searchsorted(self._ends, indices, side="right")
        return np.minimum(found, len(self._ends) - 1)


def box_columns(
    samples: Sequence[Sample],
    geometries: Sequence[Geometry],
    ref_boxes: Sequence[Batch],
    cand_boxes: Sequence[Batch],
    matches: Sequence[Matches],
) -> Columns:
    """Of DetectionRecorder's columns those of the boxes after NMS: labelled, found and matched."""
    truth = [
        _truth_boxes(sample.boxes or (), geometry.width, geometry.height)
        for sample, geometry in zip(samples, geometries, strict=True)
    ]
    return {
        "id": np.array([sample.id for sample in samples]),
        "labelled": np.array([sample.boxes is not None for sample in samples]),
        "box_class_flips": np.array([match.class_flips for match in matches], np.int64),
        **ragged("ref_boxes", ref_boxes, 6),
        **ragged("cand_boxes", cand_boxes, 6),
        **ragged("pairs", [match.differences() for match in matches], 2, np.float64),
        **ragged("truth", truth, 5, np.float64),
    }


def _truth_boxes(boxes: Sequence[Box], width: int, height: int) -> Array:
    """Normalised centre boxes -> float64 [G,5], x1,y1,x2,y2 in pixels of the image, class_id."""
    rows = [
        (
            (box.cx - box.w / 2) * width,
            (box.cy - box.h / 2) * height,
            (box.cx + box.w / 2) * width,
            (box.cy + box.h / 2) * height,
            box.class_id,
        )
        for box in boxes
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def keep_indices(rows: Batch, params: Nms) -> NDArray[np.int64]:
    """Indices of the anchors [A,6+] that the common NMS keeps."""
    return nms(
        rows[:, :6],
        conf_threshold=params.conf_threshold,
        iou_threshold=params.iou_threshold,
        max_detections=params.max_detections,
        class_agnostic=params.class_agnostic,
    )


def restore(
    detections: Batch, kept: Sequence[NDArray[np.int64]], geometries: Sequence[Geometry]
) -> list[Batch]:
    """The kept anchors of each image as [k,6], with boxes in pixels of the original image."""
    restored = [rows[indices, :6] for rows, indices in zip(detections, kept, strict=True)]
    for boxes, geometry in zip(restored, geometries, strict=True):
        boxes[:, :4] = unletterbox(boxes[:, :4], geometry)
    return restored
