"""Figures of a detection cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare import noise
from pillsnap.compare.figures import (
    Figures,
    Metrics,
    largest,
    mean,
    not_finite,
    quantile,
    worst_samples,
)
from pillsnap.compare.figures.bootstrap import (
    FEWEST_IMAGES,
    bootstrap_map_deltas,
    count_labelled,
    upper_bounds,
    upper_map,
)
from pillsnap.compare.figures.coco import evaluate
from pillsnap.compare.figures.copies import (
    count_images,
    have_copies,
    label_conflicts,
    number_images,
)
from pillsnap.compare.records import Array, Columns, unragged

# Below this mAP@0.5 the reference finds next to nothing that is labelled. Random weights had up to
# 0.0495, by one lucky box in eight images.
MAP_FLOOR = 0.05

NO_LABELLED_BOX = "no labelled box in these images"

_NO_MAP: Metrics = {
    "reference_map_0_5": None,
    "candidate_map_0_5": None,
    "map_0_5_delta": None,
    "map_0_5_delta_upper": None,
    "reference_map_0_5_0_95": None,
    "candidate_map_0_5_0_95": None,
    "map_0_5_0_95_delta": None,
    "map_0_5_0_95_delta_upper": None,
    "reference_map_0_5_0_95_upper": None,
    "map_images": 0,
    "map_distinct_images": 0,
    "map_resamples": 0,
}


def detection_figures(
    columns: Columns,
    strides: Sequence[int],
    max_detections: int,
    seed: int,
    *,
    bound_reference: bool = False,
) -> Figures:
    """Figures over all samples of a cell.

    Args:
        columns: the cell's records.
        strides: of the detector, in the order of its anchors.
        max_detections: boxes of an image that the NMS keeps, which mAP goes by.
        seed: of the resampling behind the bounds of the mAP deltas.
        bound_reference: also bound the reference's own mAP, which takes up to some seconds.

    Rates of boxes that one side lacks are unmatched boxes over all boxes of that side; the figure
    that is judged, `unmatched_rate`, is unmatched boxes of both over boxes of both. IoU delta of a
    matched pair is 1 - IoU. What the samples prove goes by the distinct images among them.
    """
    finite = columns["ref_finite"] & columns["cand_finite"]
    ref_boxes, cand_boxes = (columns[f"{side}_boxes_count"] for side in ("ref", "cand"))
    ref_count, cand_count = int(ref_boxes.sum()), int(cand_boxes.sum())
    images = number_images(columns)
    firsts = np.unique(images, return_index=True)[1]
    distinct_boxes = int((ref_boxes + cand_boxes)[firsts].sum())
    distinct_pairs = int(columns["pairs_count"][firsts].sum())
    iou_delta, conf_delta = columns["pairs"].T
    pairs, both = len(iou_delta), ref_count + cand_count
    box_err, score_err = columns["box_err_px"], columns["score_err"]
    gap = columns["class_flip_gap"]
    truth = unragged(columns, "truth")
    maps, boxed = _measure_map(columns, truth, images, max_detections, seed, bound_reference)
    metrics: dict[str, Any] = {
        "samples": len(finite),
        "distinct_samples": count_images(images),
        **label_conflicts(columns, images, _number_labels(truth, columns["labelled"], images)),
        # Where the reference is not finite either, it is the reference that has no signal.
        "non_finite": int((columns["ref_finite"] & ~columns["cand_finite"]).sum()),
        "raw_box_err_px": largest(box_err[finite]),
        "raw_score_err": largest(score_err[finite]),
        "per_stride": [
            {
                "stride": int(stride),
                "raw_box_err_px": largest(box_err[finite, index]),
                "raw_score_err": largest(score_err[finite, index]),
                "class_flip_gap": largest(gap[finite, index]),
                "reference_boxes": int(columns["ref_strides"][:, index].sum()),
            }
            for index, stride in enumerate(strides)
        ],
        "class_flip_gap": largest(gap[finite]),
        "class_flips": int(columns["class_flips"][finite].sum()),
        "box_class_flips": int(columns["box_class_flips"].sum()),
        "reference_boxes": ref_count,
        "candidate_boxes": cand_count,
        "matched_boxes": pairs,
        "reference_only": ref_count - pairs,
        "candidate_only": cand_count - pairs,
        "reference_only_rate": (ref_count - pairs) / ref_count if ref_count else None,
        "candidate_only_rate": (cand_count - pairs) / cand_count if cand_count else None,
        "unmatched_rate": (both - 2 * pairs) / both if both else None,
        "distinct_boxes": distinct_boxes,
        "distinct_unmatched": distinct_boxes - 2 * distinct_pairs,
        # NMS drops what is beyond, on both sides: it is neither compared nor found.
        "images_at_max_detections": int(
            (np.maximum(ref_boxes, cand_boxes) >= max_detections).sum()
        ),
        "labels_above_max_detections": sum(max(0, len(boxes) - max_detections) for boxes in truth),
        "iou_delta_p50": quantile(iou_delta, 0.5),
        "iou_delta_p95": quantile(iou_delta, 0.95),
        "iou_delta_max": largest(iou_delta),
        "conf_delta_mean": mean(conf_delta),
        "conf_delta_max": largest(conf_delta),
        **maps,
    }
    in_noise = np.maximum(box_err / noise.BOX_PX, score_err / noise.SCORE)
    drift = np.where(finite, in_noise.max(axis=1), np.inf)
    no_signal = not_finite(columns) or _no_signal(ref_count, maps, boxed)
    return Figures(metrics, no_signal, worst_samples(columns, drift))


def _measure_map(
    columns: Columns,
    truth: list[Array],
    images: NDArray[np.int64],
    max_detections: int,
    seed: int,
    bound_reference: bool,
) -> tuple[Metrics, int]:
    """Figures of mAP on the labelled images, or the reason why there are none; and how many
    distinct images have a labelled box."""
    labelled = np.flatnonzero(columns["labelled"])
    if not len(labelled):
        return {**_NO_MAP, "map_reason": "no labels"}, 0
    truth, ref, cand = (
        [boxes[index] for index in labelled]
        for boxes in (truth, unragged(columns, "ref_boxes"), unragged(columns, "cand_boxes"))
    )
    images = np.unique(images[labelled], return_inverse=True)[1]
    reference = evaluate(truth, ref, max_detections=max_detections)
    candidate = evaluate(truth, cand, max_detections=max_detections)
    if reference is None or candidate is None:
        return {**_NO_MAP, "map_reason": NO_LABELLED_BOX}, 0
    deltas = bootstrap_map_deltas(reference, candidate, seed=seed, images=images)
    ours, theirs, upper = reference.mean_ap(), candidate.mean_ap(), upper_bounds(deltas)
    return {
        "reference_map_0_5": ours.map_0_5,
        "candidate_map_0_5": theirs.map_0_5,
        "map_0_5_delta": theirs.map_0_5 - ours.map_0_5,
        "map_0_5_delta_upper": upper[0],
        "reference_map_0_5_0_95": ours.map_0_5_0_95,
        "candidate_map_0_5_0_95": theirs.map_0_5_0_95,
        "map_0_5_0_95_delta": theirs.map_0_5_0_95 - ours.map_0_5_0_95,
        "map_0_5_0_95_delta_upper": upper[1],
        "reference_map_0_5_0_95_upper": (
            upper_map(reference, images=images, seed=seed) if bound_reference else None
        ),
        "map_images": len(labelled),
        "map_distinct_images": count_images(images),
        "map_resamples": len(deltas),
        "map_reason": None,
    }, count_labelled(reference, images)


def _no_signal(ref_count: int, maps: Metrics, boxed: int) -> str | None:
    """Why this reference shows nothing: an untrained model would pass any comparison."""
    found, reason = maps["reference_map_0_5"], maps["map_reason"]
    if found is not None and found < MAP_FLOOR:
        few = f"{boxed} with boxes are too few to tell, verify more images; "
        return (
            f"the reference's mAP@0.5 on labelled images is {found:.3g}: "
            + (few if boxed < FEWEST_IMAGES else "")
            + "is it trained, and do labels, classes and conf_threshold belong to it?"
        )
    if ref_count == 0:
        why = f" ({reason}: verify some with boxes)" if reason == NO_LABELLED_BOX else ""
        return f"the reference finds no box in any image: nothing to compare{why}"
    return None


def _number_labels(
    truth: list[Array], labelled: NDArray[np.bool_], images: NDArray[np.int64]
) -> NDArray[np.int64]:
    """int64 [N], equal where copies have the same boxes in any order; -1 elsewhere."""
    numbers: dict[bytes, int] = {}
    labels = np.full(len(truth), -1)
    for row in np.flatnonzero(labelled & have_copies(images)):
        boxes = truth[row]
        labels[row] = numbers.setdefault(boxes[np.lexsort(boxes.T)].tobytes(), len(numbers))
    return labels
