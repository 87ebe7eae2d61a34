"""Faults of boxes: decoding that differs, and post-processing that leaves every tensor equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pillsnap.config.cells import DETECTION
from pillsnap.engines import Batch
from pillsnap.engines.torch.checkpoints import build_model, find_best_checkpoint
from pillsnap.proof.fault import DETECTOR, Bench, Injection, NotApplicable, fault

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


def _moved(threshold: float, by: float) -> float:
    """Another threshold from 0 to 1."""
    return round(threshold + (by if 0 <= threshold + by <= 1 else -by), 6)


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
    checkpoint = find_best_checkpoint(bench.config, bench.stage)
    strides = build_model(bench.config, bench.stage, checkpoint).strides
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


@fault(
    "boxes",
    "at most 300 boxes after suppression for all before it",
    DETECTOR,
    refusal="wrong shape",
)
def suppressed_in_the_graph(bench: Bench) -> Injection:
    return Injection(say=lambda output: output[:, : min(300, output.shape[1] // 2)].copy())


@fault(
    "boxes",
    "the file is shipped with an NMS at an IoU 0.2 higher",
    DETECTOR,
    refusal="nms.iou_threshold",
)
def nms_iou_changed(bench: Bench) -> Injection:
    return _made_for(bench, iou_threshold=_moved(bench.config.nms.iou_threshold, 0.2))


@fault(
    "boxes",
    "the file is shipped with a confidence threshold 0.05 lower",
    DETECTOR,
    refusal="nms.conf_threshold",
)
def confidence_changed(bench: Bench) -> Injection:
    return _made_for(bench, conf_threshold=_moved(bench.config.nms.conf_threshold, -0.05))


@fault(
    "boxes",
    "the file is shipped with the other suppression across classes",
    DETECTOR,
    refusal="nms.class_agnostic",
)
def class_agnostic(bench: Bench) -> Injection:
    return _made_for(bench, class_agnostic=not bench.config.nms.class_agnostic)


@fault(
    "boxes",
    "the file is shipped with half as many boxes at most",
    DETECTOR,
    refusal="nms.max_detections",
)
def fewer_boxes(bench: Bench) -> Injection:
    most = bench.config.nms.max_detections
    if most == 1:
        raise NotApplicable("a photo has one box at most")
    return _made_for(bench, max_detections=most // 2)
