"""Faults of boxes: decoding that differs, and post-processing that leaves every tensor equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pillsnap.config.cells import DETECTION
from pillsnap.engines import Batch
from pillsnap.proof.fault import DETECTOR, Bench, Fault, Injection, fault

_SMALL_PX = 40.0


def _say(change: Callable[[Batch], None]) -> Injection:
    """Change the candidate's [N,A,6] boxes in place."""

    def say(output: Batch) -> Batch:
        changed = output.copy()
        change(changed)
        return changed

    return Injection(say=say)


def _made_for(bench: Bench, **nms: Any) -> Injection:
    """The same graph, exported to be shipped with another non-maximum suppression."""
    export = bench.config.export
    other = replace(
        export,
        postprocess=replace(export.postprocess, nms=replace(bench.config.nms, **nms)),
    )
    return Injection(bench.export(replace(bench.config, export=other)))


@fault("boxes", "centre and size for two corners", DETECTOR)
def xywh_for_xyxy(bench: Bench) -> Injection:
    def change(rows: Batch) -> None:
        low, high = rows[..., :2].copy(), rows[..., 2:4].copy()
        rows[..., :2], rows[..., 2:4] = (low + high) / 2, high - low

    return _say(change)


@fault("boxes", "y before x", DETECTOR)
def yxyx_for_xyxy(bench: Bench) -> Injection:
    def change(rows: Batch) -> None:
        rows[..., :4] = rows[..., [1, 0, 3, 2]]

    return _say(change)


@fault("boxes", "fractions of the input for pixels", DETECTOR)
def boxes_in_fractions(bench: Bench) -> Injection:
    _, _, height, width = bench.config.input_shape(DETECTION)

    def change(rows: Batch) -> None:
        rows[..., :4] /= np.array([width, height] * 2, np.float32)

    return _say(change)


@fault(
    "boxes", "anchors at the corners of their cells: half a stride off, each by its own", DETECTOR
)
def shifted_by_half_a_stride(bench: Bench) -> Injection:
    _, _, height, width = bench.config.input_shape(DETECTION)
    strides = (8, 16, 32)
    shift = np.concatenate(
        [np.full((height // s) * (width // s), s / 2, np.float32) for s in strides]
    )

    def change(rows: Batch) -> None:
        rows[..., :4] -= shift[:, None]

    return _say(change)


@fault("boxes", f"boxes of less than {_SMALL_PX:g} px lost", DETECTOR)
def small_boxes_dropped(bench: Bench) -> Injection:
    def change(rows: Batch) -> None:
        sides = (rows[..., 2:4] - rows[..., :2]).max(axis=-1)
        rows[..., 4][sides < _SMALL_PX] = 0

    return _say(change)


@fault("boxes", "one sure box too many in every image", DETECTOR)
def extra_boxes(bench: Bench) -> Injection:
    def change(rows: Batch) -> None:
        rows[:, 0, :5] = (1, 1, 25, 25, 0.9)

    return _say(change)


@fault("boxes", "class indices from 1, with a background of 0", DETECTOR)
def classes_from_1(bench: Bench) -> Injection:
    def change(rows: Batch) -> None:
        rows[..., 5] += 1

    return _say(change)


@fault("boxes", "300 boxes after suppression for all before it", DETECTOR, refusal="wrong shape")
def suppressed_in_the_graph(bench: Bench) -> Injection:
    return Injection(say=lambda output: output[:, :300].copy())


@fault(
    "boxes",
    "the file is shipped with an NMS at IoU 0.7 for 0.5",
    DETECTOR,
    refusal="nms.iou_threshold",
)
def nms_iou_changed(bench: Bench) -> Injection:
    return _made_for(bench, iou_threshold=0.7)


@fault(
    "boxes",
    "the file is shipped with a confidence threshold of 0.25 for 0.3",
    DETECTOR,
    refusal="nms.conf_threshold",
)
def confidence_changed(bench: Bench) -> Injection:
    return _made_for(bench, conf_threshold=0.25)


@fault(
    "boxes",
    "the file is shipped with suppression across classes",
    DETECTOR,
    refusal="nms.class_agnostic",
)
def class_agnostic(bench: Bench) -> Injection:
    return _made_for(bench, class_agnostic=True)


@fault(
    "boxes",
    "the file is shipped with at most 10 boxes for 100",
    DETECTOR,
    refusal="nms.max_detections",
)
def fewer_boxes(bench: Bench) -> Injection:
    return _made_for(bench, max_detections=10)


FAULTS: tuple[Fault, ...] = (
    *xywh_for_xyxy,
    *yxyx_for_xyxy,
    *boxes_in_fractions,
    *shifted_by_half_a_stride,
    *small_boxes_dropped,
    *extra_boxes,
    *classes_from_1,
    *suppressed_in_the_graph,
    *nms_iou_changed,
    *confidence_changed,
    *class_agnostic,
    *fewer_boxes,
)
