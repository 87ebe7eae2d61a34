"""Faults of one stage of the pipeline each, and whether the error budget finds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pillsnap.diagnose import pipeline_budget
from pillsnap.export import read_onnx
from pillsnap.pipeline.crops import crop_box
from pillsnap.pipeline.softmax import softmax
from pillsnap.proof.onnx_edits import change
from pillsnap.proof.roles import box_softmax, score_sigmoid
from pillsnap.proof.stage_breaks import (
    Both,
    Break,
    cut,
    edited_file,
    fed,
    head_moved,
    moved,
    prepared,
    probabilities,
    replaced,
    scaled_layer,
    sigmoid_twice,
    softmax_twice,
    suppressed,
    turned,
)
from pillsnap.proof.wrong_preprocessing import black_padding, other_filter, other_mean

if TYPE_CHECKING:
    import onnx

# The least share of the difference that the guilty stage must have, in percent.
ENOUGH = 80.0


@dataclass(frozen=True)
class StageFault:
    """A fault of one stage, by the name that `pipeline_budget` has for it."""

    name: str
    guilty: str
    inject: Break


def share_of(
    fault: StageFault, both: Both, healthy: onnx.ModelProto, folder: Path
) -> dict[str, Any]:
    """What the budget gives the guilty stage: fault, guilty, share in percent, right."""
    broken = fault.inject(both, folder)
    budget = pipeline_budget(
        broken.detector,
        broken.classifier,
        read_onnx(broken.detector.model),
        healthy,
        broken.crop,
    )
    share = 0.0 if budget.percent is None else budget.percent[fault.guilty]
    return {
        "fault": fault.name,
        "guilty": fault.guilty,
        "share": share,
        "right": share >= ENOUGH,
    }


STAGE_FAULTS: tuple[StageFault, ...] = (
    StageFault("bgr_for_rgb", "preprocess", fed("detector", lambda x: x[::-1])),
    StageFault("padding_0", "preprocess", prepared("detector", black_padding)),
    StageFault("scaled_twice", "preprocess", fed("detector", lambda x: x / 255)),
    StageFault("shifted_down", "preprocess", fed("detector", lambda x: np.roll(x, 4, axis=1))),
    StageFault("first_convolution", "network", edited_file("detector", scaled_layer(0))),
    StageFault("early_convolution", "network", edited_file("detector", scaled_layer(0.25))),
    StageFault("middle_convolution", "network", edited_file("detector", scaled_layer(0.5))),
    StageFault("late_convolution", "network", edited_file("detector", scaled_layer(0.9))),
    StageFault(
        "missing_sigmoid", "decode", edited_file("detector", replaced(score_sigmoid, "Identity"))
    ),
    StageFault("sigmoid_twice", "decode", edited_file("detector", sigmoid_twice)),
    StageFault(
        "no_distribution", "decode", edited_file("detector", replaced(box_softmax, "Sigmoid"))
    ),
    StageFault(
        "boxes_too_large",
        "decode",
        # A constant of the decoding that every export ends with.
        edited_file(
            "detector", lambda model: change(model, "/decode/half", lambda half: half * 1.2)
        ),
    ),
    StageFault("other_confidence", "nms", suppressed(conf_threshold=0.7)),
    StageFault("other_iou", "nms", suppressed(iou_threshold=0.95)),
    StageFault("fewer_boxes", "nms", suppressed(max_detections=2)),
    StageFault("no_margin", "crop", cut(lambda image, box, _: crop_box(image, box, 0.0))),
    StageFault("wide_margin", "crop", cut(lambda image, box, _: crop_box(image, box, 0.2))),
    StageFault("moved", "crop", cut(moved)),
    StageFault("rows_for_columns", "crop", cut(turned)),
    StageFault("bgr_crops", "classifier", fed("classifier", lambda x: x[::-1])),
    StageFault(
        "other_interpolation",
        "classifier",
        prepared("classifier", other_filter),
    ),
    StageFault(
        "other_mean",
        "classifier",
        prepared("classifier", other_mean),
    ),
    StageFault("scaled_weights", "classifier", edited_file("classifier", scaled_layer(0.5))),
    StageFault("rows_of_the_head_moved", "classifier", edited_file("classifier", head_moved)),
    StageFault("softmax_twice", "softmax", probabilities(softmax_twice)),
    StageFault("temperature_2", "softmax", probabilities(lambda x: softmax(x / 2))),
    StageFault("sigmoid_for_softmax", "softmax", probabilities(lambda x: 1 / (1 + np.exp(-x)))),
)
