"""Faults of one stage of the pipeline each, and whether the error budget finds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pillsnap.diagnose import Side, Subject, pipeline_budget
from pillsnap.diagnose.pipeline_budget import Crop
from pillsnap.engines import Batch
from pillsnap.export import read_onnx
from pillsnap.pipeline.crops import crop_box
from pillsnap.pipeline.preprocess import Pixels, Tensor, preprocess
from pillsnap.pipeline.softmax import softmax
from pillsnap.proof.onnx_edits import change, convolutions, insert_after, node
from pillsnap.tasks import DETECTION_TASK

if TYPE_CHECKING:
    import onnx

# The least share of the difference that the guilty stage must have, in percent.
ENOUGH = 80.0


@dataclass(frozen=True)
class Both:
    """The two stages of a pipeline, and how its candidate cuts out pills (None: rightly)."""

    detector: Subject
    classifier: Subject
    crop: Crop | None = None


Break = Callable[[Both, Path], Both]
"""Breaks a pipeline; the folder is for a file."""


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


def _side(stage: str, how: Callable[[Side], Side]) -> Break:
    """A change of the candidate's side of a stage."""

    def inject(both: Both, folder: Path) -> Both:
        subject: Subject = getattr(both, stage)
        broken: dict[str, Any] = {stage: replace(subject, candidate=how(subject.candidate))}
        return replace(both, **broken)

    return inject


def _prepared(stage: str, **changes: Any) -> Break:
    """Other preprocessing of a stage, by what its transform says."""

    def inject(both: Both, folder: Path) -> Both:
        transform = replace(getattr(both, stage).transform, **changes)

        def prepare(image: Pixels) -> Tensor:
            return preprocess(image, transform)

        return _side(stage, lambda side: replace(side, prepare=prepare))(both, folder)

    return inject


def _fed(stage: str, how: Callable[[Any], Any]) -> Break:
    """A change of what the candidate's network of a stage is fed."""

    def changed(side: Side) -> Side:
        def prepare(image: Pixels) -> Tensor:
            return np.ascontiguousarray(how(side.prepare(image)), np.float32)

        return replace(side, prepare=prepare)

    return _side(stage, changed)


def _file(stage: str, how: Callable[[onnx.ModelProto], object]) -> Break:
    """A change of a stage's file."""

    def inject(both: Both, folder: Path) -> Both:
        import onnx

        subject: Subject = getattr(both, stage)
        model = read_onnx(subject.model)
        how(model)
        path = folder / f"{stage}.onnx"
        onnx.save(model, path)
        network = subject.open(path)
        side = replace(subject.candidate, network=network)
        broken: dict[str, Any] = {
            stage: replace(subject, model=path, opened=network, candidate=side)
        }
        return replace(both, **broken)

    return inject


def _suppressed(**changes: Any) -> Break:
    """Another non-maximum suppression."""

    def inject(both: Both, folder: Path) -> Both:
        finish = DETECTION_TASK.finishing.make(replace(both.detector.config.nms, **changes))
        return _side("detector", lambda side: replace(side, finish=finish))(both, folder)

    return inject


def _cut(how: Callable[[Pixels, Sequence[float], float], Pixels]) -> Break:
    """Another crop; it is given the photo, the box and the margin in force."""

    def inject(both: Both, folder: Path) -> Both:
        margin = both.classifier.config.pipeline.crop_margin
        return replace(both, crop=lambda image, box: how(image, box, margin))

    return inject


def _probabilities(how: Callable[[Any], Any]) -> Break:
    """Something else than the softmax of logits, or on it."""

    def changed(side: Side) -> Side:
        return replace(side, finish=lambda answer: list(how(answer)))

    return _side("classifier", changed)


def _scaled(place: float, factor: float = 1.05) -> Callable[[onnx.ModelProto], object]:
    """One convolution's weights, by its place from 0, the first, to 1."""

    def how(model: onnx.ModelProto) -> object:
        names = convolutions(model)
        name = names[round(place * (len(names) - 1))]
        return change(model, name, lambda weights: weights * factor)

    return how


def _renamed(kind: str, name: str, other: str) -> Callable[[onnx.ModelProto], object]:
    """Another operator for the first of a kind."""

    def how(model: onnx.ModelProto) -> object:
        found = node(model, kind, name)
        found.op_type = other
        del found.attribute[:]
        return found

    return how


def _sigmoid_twice(model: onnx.ModelProto) -> object:
    from onnx import helper

    again = helper.make_node("Sigmoid", ["x"], ["y"], name="again")
    return insert_after(model, node(model, "Sigmoid", _SCORES).output[0], again)


def _head_moved(model: onnx.ModelProto) -> object:
    for name in node(model, "Gemm").input[1:]:
        change(model, name, lambda weights: np.roll(weights, 1, axis=0))
    return model


def _softmax_twice(logits: Batch) -> Any:
    return softmax(softmax(logits).astype(np.float32))


def _moved(image: Pixels, box: Sequence[float], margin: float) -> Pixels:
    """A tenth of the width to the right."""
    shift = 0.1 * (box[2] - box[0])
    return crop_box(image, (box[0] + shift, box[1], box[2] + shift, box[3]), margin)


def _turned(image: Pixels, box: Sequence[float], margin: float) -> Pixels:
    """Rows for columns."""
    return crop_box(image, (box[1], box[0], box[3], box[2]), margin)


_SCORES = "/model.23/Sigmoid"

STAGE_FAULTS: tuple[StageFault, ...] = (
    StageFault("bgr_for_rgb", "preprocess", _fed("detector", lambda x: x[::-1])),
    StageFault("padding_0", "preprocess", _prepared("detector", pad_value=0)),
    StageFault("scaled_twice", "preprocess", _fed("detector", lambda x: x / 255)),
    StageFault("shifted_down", "preprocess", _fed("detector", lambda x: np.roll(x, 4, axis=1))),
    StageFault("first_convolution", "network", _file("detector", _scaled(0))),
    StageFault("early_convolution", "network", _file("detector", _scaled(0.25))),
    StageFault("middle_convolution", "network", _file("detector", _scaled(0.5))),
    StageFault("late_convolution", "network", _file("detector", _scaled(0.9))),
    StageFault(
        "missing_sigmoid", "decode", _file("detector", _renamed("Sigmoid", _SCORES, "Identity"))
    ),
    StageFault("sigmoid_twice", "decode", _file("detector", _sigmoid_twice)),
    StageFault(
        "no_distribution", "decode", _file("detector", _renamed("Softmax", "/dfl", "Sigmoid"))
    ),
    StageFault(
        "boxes_too_large",
        "decode",
        _file("detector", lambda model: change(model, "/decode/half", lambda half: half * 1.2)),
    ),
    StageFault("other_confidence", "nms", _suppressed(conf_threshold=0.7)),
    StageFault("other_iou", "nms", _suppressed(iou_threshold=0.95)),
    StageFault("fewer_boxes", "nms", _suppressed(max_detections=2)),
    StageFault("no_margin", "crop", _cut(lambda image, box, _: crop_box(image, box, 0.0))),
    StageFault("wide_margin", "crop", _cut(lambda image, box, _: crop_box(image, box, 0.2))),
    StageFault("moved", "crop", _cut(_moved)),
    StageFault("rows_for_columns", "crop", _cut(_turned)),
    StageFault("bgr_crops", "classifier", _fed("classifier", lambda x: x[::-1])),
    StageFault(
        "other_interpolation", "classifier", _prepared("classifier", interpolation="bilinear")
    ),
    StageFault("other_mean", "classifier", _prepared("classifier", mean=(0.485, 0.456, 0.406))),
    StageFault("scaled_weights", "classifier", _file("classifier", _scaled(0.5))),
    StageFault("rows_of_the_head_moved", "classifier", _file("classifier", _head_moved)),
    StageFault("softmax_twice", "softmax", _probabilities(_softmax_twice)),
    StageFault("temperature_2", "softmax", _probabilities(lambda x: softmax(x / 2))),
    StageFault("sigmoid_for_softmax", "softmax", _probabilities(lambda x: 1 / (1 + np.exp(-x)))),
)
