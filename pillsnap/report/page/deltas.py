"""The change of mAP by class and by size of box, with what the sample bounds its loss by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.figures.bootstrap import bootstrap_map_deltas, upper_bounds
from pillsnap.compare.figures.coco import evaluate
from pillsnap.compare.figures.copies import number_images
from pillsnap.compare.figures.ranking import Evaluation
from pillsnap.compare.matching import MATCH_IOU, box_iou
from pillsnap.compare.records import Columns, unragged_rows
from pillsnap.report.page.columns import MOST_CLASSES, MOST_IMAGES, SIZES

# Draws behind a bound: it is shown and judges nothing.
_RESAMPLES = 200

Boxes = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Delta:
    """Labelled boxes of a class or a size, mAP@0.5:0.95 of both engines over them, and `upper`, the
    one-sided 95 % bound of its loss."""

    name: str
    labelled: int
    reference: float
    candidate: float
    upper: float | None

    @property
    def delta(self) -> float:
        return self.candidate - self.reference


def map_deltas(records: Columns, *, max_detections: int, seed: int) -> dict[str, list[Delta]]:
    """Of "class" and "size", of labelled images of which copies count once; {} without labels.

    A found box is of the size of the labelled box of its class that it overlaps most, from the IoU
    on at which mAP begins, else of its own.
    """
    if "truth" not in records:
        return {}
    distinct = np.unique(number_images(records), return_index=True)[1]
    chosen = distinct[records["labelled"][distinct]]
    rows = chosen[:: max(1, -(-len(chosen) // MOST_IMAGES))].tolist()
    truth, ref, cand = (
        list(unragged_rows(records, name, rows)) for name in ("truth", "ref_boxes", "cand_boxes")
    )
    finite = [
        all(np.isfinite(side).all() for side in sides) for sides in zip(ref, cand, strict=True)
    ]
    truth, ref, cand = (
        [boxes for boxes, whole in zip(side, finite, strict=True) if whole]
        for side in (truth, ref, cand)
    )
    if not any(len(boxes) for boxes in truth):
        return {}

    def delta(name: str, sides: tuple[Evaluation, Evaluation]) -> Delta:
        deltas = bootstrap_map_deltas(*sides, seed=seed, resamples=_RESAMPLES)
        before, after = (side.mean_ap().map_0_5_0_95 for side in sides)
        labelled = sum(len(ranking.labelled) for ranking in sides[0].rankings)
        return Delta(name, labelled, before, after, upper_bounds(deltas)[1])

    def both(truth: Boxes, *found: Boxes) -> tuple[Evaluation, Evaluation] | None:
        first, second = (evaluate(truth, side, max_detections=max_detections) for side in found)
        return None if first is None or second is None else (first, second)

    whole = both(truth, ref, cand)
    assert whole is not None  # by the labelled box
    names = sorted({int(index) for boxes in truth for index in boxes[:, 4]})
    classes = [
        (f"class {name}", tuple(Evaluation(side.images, (side.rankings[place],)) for side in whole))
        for place, name in enumerate(names)
    ]
    classes.sort(key=lambda each: _loss(each[1]), reverse=True)
    sizes = [
        (name, sides)
        for name, *parts in _by_size(truth, ref, cand)
        if (sides := both(*parts)) is not None
    ]
    return {
        "class": [delta(name, (a, b)) for name, (a, b) in classes[:MOST_CLASSES]],
        "size": [delta(name, sides) for name, sides in sizes],
    }


def _loss(sides: tuple[Evaluation, ...]) -> float:
    reference, candidate = (side.mean_ap().map_0_5_0_95 for side in sides)
    return reference - candidate


def _by_size(truth: Boxes, *found: Boxes) -> Iterator[tuple[str, Boxes, Boxes, Boxes]]:
    """Labelled boxes and those of both engines that are of each size."""
    of_truth = [_side(boxes) for boxes in truth]
    of_found = [
        [
            _side_of(rows, boxes, sides)
            for rows, boxes, sides in zip(side, truth, of_truth, strict=True)
        ]
        for side in found
    ]
    below = 0.0
    for name, end in SIZES.items():
        first, second, third = (
            [rows[(below <= sides) & (sides < end)] for rows, sides in zip(boxes, of, strict=True)]
            for boxes, of in zip((truth, *found), (of_truth, *of_found), strict=True)
        )
        yield name, first, second, third
        below = end


def _side(boxes: NDArray[Any]) -> NDArray[Any]:
    """Of squares of the same areas, in pixels."""
    sides: NDArray[Any] = np.sqrt(np.prod(np.maximum(boxes[:, 2:4] - boxes[:, :2], 0), axis=1))
    return sides


def _side_of(rows: NDArray[Any], truth: NDArray[Any], sides: NDArray[Any]) -> NDArray[Any]:
    own = _side(rows)
    if not len(truth) or not len(rows):
        return own
    ious = np.where(rows[:, 5:6] == truth[None, :, 4], box_iou(rows[:, :4], truth[:, :4]), 0.0)
    best = ious.argmax(axis=1)
    matched: NDArray[Any] = np.where(ious.max(axis=1) >= MATCH_IOU, sides[best], own)
    return matched
