"""Ways to break one stage of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pillsnap.compare.tasks import DETECTION_TASK
from pillsnap.diagnose import Side, Subject
from pillsnap.diagnose.pipeline_budget import Crop
from pillsnap.engines import Batch, Transform
from pillsnap.export import read_onnx
from pillsnap.pipeline.crops import crop_box
from pillsnap.pipeline.preprocess import Pixels, Tensor, preprocess
from pillsnap.pipeline.softmax import softmax
from pillsnap.proof.onnx_edits import change, insert_after
from pillsnap.proof.roles import classifier_head, layers, score_sigmoid

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Both:
    """The two stages of a pipeline, and how its candidate cuts out pills (None: rightly)."""

    detector: Subject
    classifier: Subject
    crop: Crop | None = None


Break = Callable[[Both, Path], Both]
"""Breaks a pipeline; the folder is for a file."""


def break_side(stage: str, how: Callable[[Side], Side]) -> Break:
    """A change of the candidate's side of a stage."""

    def inject(both: Both, folder: Path) -> Both:
        subject: Subject = getattr(both, stage)
        broken: dict[str, Any] = {stage: replace(subject, candidate=how(subject.candidate))}
        return replace(both, **broken)

    return inject


def prepared(stage: str, change: Callable[[Any], Transform]) -> Break:
    """Other preprocessing of a stage, by what its transform says."""

    def inject(both: Both, folder: Path) -> Both:
        transform = change(getattr(both, stage).transform)

        def prepare(image: Pixels) -> Tensor:
            return preprocess(image, transform)

        return break_side(stage, lambda side: replace(side, prepare=prepare))(both, folder)

    return inject


def fed(stage: str, how: Callable[[Any], Any]) -> Break:
    """A change of what the candidate's network of a stage is fed."""

    def changed(side: Side) -> Side:
        def prepare(image: Pixels) -> Tensor:
            return np.ascontiguousarray(how(side.prepare(image)), np.float32)

        return replace(side, prepare=prepare)

    return break_side(stage, changed)


def edited_file(stage: str, how: Callable[[onnx.ModelProto], object]) -> Break:
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


def suppressed(**changes: Any) -> Break:
    """Another non-maximum suppression."""

    def inject(both: Both, folder: Path) -> Both:
        finish = DETECTION_TASK.finishing.make(replace(both.detector.config.nms, **changes))
        return break_side("detector", lambda side: replace(side, finish=finish))(both, folder)

    return inject


def cut(how: Callable[[Pixels, Sequence[float], float], Pixels]) -> Break:
    """Another crop; it is given the photo, the box and the margin in force."""

    def inject(both: Both, folder: Path) -> Both:
        margin = both.classifier.config.pipeline.crop_margin
        return replace(both, crop=lambda image, box: how(image, box, margin))

    return inject


def probabilities(how: Callable[[Any], Any]) -> Break:
    """Something else than the softmax of logits, or on it."""

    def changed(side: Side) -> Side:
        return replace(side, finish=lambda answer: list(how(answer)))

    return break_side("classifier", changed)


def scaled_layer(place: float, factor: float = 1.05) -> Callable[[onnx.ModelProto], object]:
    """One layer's weights, by its place from 0, the first, to 1."""

    def how(model: onnx.ModelProto) -> object:
        names = layers(model)
        name = names[round(place * (len(names) - 1))]
        return change(model, name, lambda weights: weights * factor)

    return how


def replaced(
    role: Callable[[onnx.ModelProto], onnx.NodeProto], other: str
) -> Callable[[onnx.ModelProto], object]:
    """Another operator for the node that has a role."""

    def how(model: onnx.ModelProto) -> object:
        found = role(model)
        found.op_type = other
        del found.attribute[:]
        return found

    return how


def sigmoid_twice(model: onnx.ModelProto) -> object:
    from onnx import helper

    again = helper.make_node("Sigmoid", ["x"], ["y"], name="again")
    return insert_after(model, score_sigmoid(model).output[0], again)


def head_moved(model: onnx.ModelProto) -> object:
    for name in classifier_head(model).input[1:]:
        change(model, name, lambda weights: np.roll(weights, 1, axis=0))
    return model


def softmax_twice(logits: Batch) -> Any:
    return softmax(softmax(logits).astype(np.float32))


def moved(image: Pixels, box: Sequence[float], margin: float) -> Pixels:
    """A tenth of the width to the right."""
    shift = 0.1 * (box[2] - box[0])
    return crop_box(image, (box[0] + shift, box[1], box[2] + shift, box[3]), margin)


def turned(image: Pixels, box: Sequence[float], margin: float) -> Pixels:
    """Rows for columns."""
    return crop_box(image, (box[1], box[0], box[3], box[2]), margin)
