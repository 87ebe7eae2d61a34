"""Detections as rows of x1, y1, x2, y2, confidence, class: suppression.

It is what every engine's output goes through, so nothing here depends on the machine: IEEE
arithmetic in a fixed order, ties broken by index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


def nms(
    detections: Rows,
    *,
    conf_threshold: float,
    iou_threshold: float,
    max_detections: int,
    class_agnostic: bool,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression, keeping what torchvision and ultralytics keep.

    The row of highest confidence stays and drops every later one that overlaps it by more than
    the threshold, and so on. IoU is float32, in torchvision's order of operations, compared as
    float64: the same rows on every machine, and the same as torchvision.ops.nms at exact ties.
    Classes are kept apart by comparing them, not by moving boxes, which costs precision.

    Args:
        detections: float32 [A, 6]. Rows with a value that is not finite are never kept.
        conf_threshold: rows stay in play with a confidence above it (compared as float32).
        iou_threshold: rows go that overlap a kept one by more than it.
        max_detections: most rows kept, over all classes.
        class_agnostic: let boxes of different classes suppress each other.

    Returns:
        int64 [K], indices of the kept rows by falling confidence, equal ones by index.

    Raises:
        ValueError: detections is not [A, 6].
    """
    rows = to_rows(detections)
    valid = np.isfinite(rows).all(axis=1) & (rows[:, 4] > np.float32(conf_threshold))
    left = np.flatnonzero(valid)
    left = left[np.argsort(-rows[left, 4], kind="stable")]
    boxes, classes = rows[left, :4], rows[left, 5]
    kept: list[int] = []
    # Boxes without area divide 0 by 0, huge ones overflow; neither compares as an overlap.
    with np.errstate(all="ignore"):
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        while left.size and len(kept) < max_detections:
            kept.append(int(left[0]))
            sides = np.minimum(boxes[0, 2:], boxes[1:, 2:]) - np.maximum(
                boxes[0, :2], boxes[1:, :2]
            )
            shared = np.maximum(sides, 0).prod(axis=1)
            ious = shared / (areas[0] + areas[1:] - shared)
            drop = ious.astype(np.float64) > iou_threshold
            if not class_agnostic:
                drop &= classes[1:] == classes[0]
            stay = np.flatnonzero(~drop) + 1
            left, boxes, classes, areas = left[stay], boxes[stay], classes[stay], areas[stay]
    return np.array(kept, dtype=np.int64)


def suppress_boxes(
    detections: Rows, *, max_detections: int, **how: Any
) -> tuple[NDArray[np.int64], bool]:
    """`nms`, and whether there were more rows than max_detections to keep."""
    kept = nms(detections, max_detections=max_detections + 1, **how)
    return kept[:max_detections], len(kept) > max_detections


def take_boxes(detections: Rows, *, above: float) -> tuple[NDArray[np.int64], bool]:
    """What `suppress_boxes` gives, of rows that are final: those with a score above a threshold.
    Where there are as many as rows, more may have been cut off inside the model."""
    many = len(detections)
    kept = nms(
        detections,
        conf_threshold=above,
        iou_threshold=1.0,
        max_detections=many,
        class_agnostic=False,
    )
    return kept, 0 < many == len(kept)


def to_rows(detections: NDArray[Any]) -> Rows:
    rows = np.asarray(detections, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise ValueError(f"detections must be [K, 6], got {list(rows.shape)}")
    return rows
