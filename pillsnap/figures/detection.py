"""Figures of a detection cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap import noise
from pillsnap.coco import MeanAP, average_precision
from pillsnap.detections import match_boxes
from pillsnap.figures import Figures, largest, mean, quantile, worst_samples
from pillsnap.labels import Box
from pillsnap.records import Columns, unragged

# Below this mAP@0.5 the reference finds next to nothing that is labelled. Random weights had up to
# 0.0495, by one lucky box in eight images.
MAP_FLOOR = 0.05


def detection_figures(
    columns: Columns,
    truth: Mapping[str, tuple[Box, ...] | None],
    strides: Sequence[int],
    max_detections: int,
) -> Figures:
    """Figures over all samples of a cell.

    Args:
        columns: the cell's records.
        truth: labelled boxes by sample id; None for an image without labels.
        strides: of the detector, in the order of its anchors.

    Rates of boxes that one side lacks are unmatched boxes over all boxes of that side; the figure
    that is judged, `unmatched_rate`, is unmatched boxes of both over boxes of both. IoU delta of a
    matched pair is 1 - IoU.
    """
    finite = columns["ref_finite"] & columns["cand_finite"]
    ref, cand = list(unragged(columns, "ref_boxes")), list(unragged(columns, "cand_boxes"))
    matches = [match_boxes(a, b) for a, b in zip(ref, cand, strict=True)]
    pairs = sum(len(match.pairs) for match in matches)
    ious = np.concatenate([match.ious for match in matches])
    conf = np.concatenate(
        [
            np.abs(a[match.pairs[:, 0], 4] - b[match.pairs[:, 1], 4])
            for a, b, match in zip(ref, cand, matches, strict=True)
        ]
    )
    ref_count, cand_count = sum(map(len, ref)), sum(map(len, cand))
    both = ref_count + cand_count
    box_err = columns["box_err_px"][finite]
    score_err = columns["score_err"][finite]
    maps, reason = _mean_ap(columns, truth, ref, cand, max_detections)
    metrics: dict[str, Any] = {
        "samples": len(finite),
        # Where the reference is not finite either, it is the reference that has no signal.
        "non_finite": int((columns["ref_finite"] & ~columns["cand_finite"]).sum()),
        "raw_box_err_px": largest(box_err),
        "raw_score_err": largest(score_err),
        "per_stride": [
            {
                "stride": int(stride),
                "raw_box_err_px": largest(box_err[:, index]),
                "raw_score_err": largest(score_err[:, index]),
                "reference_boxes": int(columns["ref_strides"][:, index].sum()),
            }
            for index, stride in enumerate(strides)
        ],
        "class_flips": int(columns["class_flips"][finite].sum()),
        "reference_boxes": ref_count,
        "candidate_boxes": cand_count,
        "matched_boxes": pairs,
        "reference_only": ref_count - pairs,
        "candidate_only": cand_count - pairs,
        "unmatched_rate": (both - 2 * pairs) / both if both else None,
        "iou_delta_p50": quantile(1 - ious, 0.5),
        "iou_delta_p95": quantile(1 - ious, 0.95),
        "iou_delta_max": largest(1 - ious),
        "conf_delta_mean": mean(conf),
        "conf_delta_max": largest(conf),
        **_map_metrics(maps),
        "map_reason": reason,
    }
    in_noise = np.maximum(columns["box_err_px"] / noise.BOX_PX, columns["score_err"] / noise.SCORE)
    drift = np.where(finite, in_noise.max(axis=1), np.inf)
    return Figures(
        metrics, _no_signal(columns, ref_count, maps), worst_samples(columns["id"], drift)
    )


def _mean_ap(
    columns: Columns,
    truth: Mapping[str, tuple[Box, ...] | None],
    ref: Sequence[NDArray[Any]],
    cand: Sequence[NDArray[Any]],
    max_detections: int,
) -> tuple[tuple[MeanAP, MeanAP] | None, str | None]:
    """mAP of reference and candidate on the labelled images, or the reason why there is none."""
    rows = [
        index
        for index, sample in enumerate(columns["id"].tolist())
        if truth.get(sample) is not None
    ]
    if not rows:
        return None, "no labels"
    boxes = [
        _pixels(truth[columns["id"][i]] or (), columns["width"][i], columns["height"][i])
        for i in rows
    ]
    found = [
        average_precision(boxes, [side[i] for i in rows], max_detections=max_detections)
        for side in (ref, cand)
    ]
    if found[0] is None or found[1] is None:
        return None, "no labelled box in these images"
    return (found[0], found[1]), None


def _pixels(boxes: Sequence[Box], width: int, height: int) -> NDArray[np.float64]:
    """Normalised centre boxes -> [G,5] x1,y1,x2,y2 in pixels and class_id."""
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


def _map_metrics(maps: tuple[MeanAP, MeanAP] | None) -> dict[str, float | None]:
    names = ("map_0_5", "map_0_5_0_95")
    if maps is None:
        sides = ("reference", "candidate")
        nothing = {f"{side}_{name}": None for side in sides for name in names}
        return {**nothing, **{f"{name}_delta": None for name in names}}
    reference, candidate = maps
    return {
        **{f"reference_{name}": getattr(reference, name) for name in names},
        **{f"candidate_{name}": getattr(candidate, name) for name in names},
        **{f"{name}_delta": getattr(candidate, name) - getattr(reference, name) for name in names},
    }


def _no_signal(columns: Columns, ref_count: int, maps: tuple[MeanAP, MeanAP] | None) -> str | None:
    """Why this reference shows nothing: an untrained model would pass any comparison."""
    if not columns["ref_finite"].all():
        count = int((~columns["ref_finite"]).sum())
        return f"the reference's output is not finite for {count} samples"
    if maps is not None and maps[0].map_0_5 < MAP_FLOOR:
        return (
            f"the reference's mAP@0.5 on labelled images is {maps[0].map_0_5:.3g}: is it trained, "
            "and do labels, classes and conf_threshold belong to it?"
        )
    if ref_count == 0:
        return "the reference finds no box in any image: nothing to compare"
    return None
