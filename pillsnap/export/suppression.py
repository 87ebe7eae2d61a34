"""The NMS inside a file, and the thresholds that its graph holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pillsnap.config.settings import Nms

if TYPE_CHECKING:
    import onnx

# As many as float32 has of numbers below 1.
_DIGITS = 7

# What hands on a number as it is.
_PASSED = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")

_OPERATORS = ("NonMaxSuppression", "EfficientNMS_TRT", "BatchedNMS_TRT", "BatchedNMSDynamic_TRT")


@dataclass(frozen=True)
class Suppression:
    """The thresholds of an NMS; None where the graph does not say, or says several.

    Attributes:
        conf_threshold: boxes have a score above it.
        iou_threshold: of two boxes that overlap by more, one goes.
    """

    conf_threshold: float | None
    iou_threshold: float | None


def other_thresholds(inside: Suppression | Nms, nms: Nms) -> str:
    """Such as "conf 0.25 (conf_threshold: 0.3)": what an NMS inside has otherwise than configured;
    "" where nothing is known to be."""
    return ", ".join(
        f"{word} {found:.3g} ({key}: {wanted:.3g})"
        for word, key in (("conf", "conf_threshold"), ("IoU", "iou_threshold"))
        if (found := getattr(inside, key)) not in (None, wanted := getattr(nms, key))
    )


def find_suppression(model: onnx.ModelProto) -> Suppression | None:
    """The NMS among a model's operators; None of one without."""
    from onnx import helper

    nodes = [node for node in model.graph.node if node.op_type in _OPERATORS]
    if not nodes:
        return None
    constants = _constants(model)
    scores: set[float | None] = set()
    overlaps: set[float | None] = set()
    for node in nodes:
        given = {
            each.name: round(helper.get_attribute_value(each), _DIGITS)
            for each in node.attribute
            if each.name.endswith("_threshold")
        }
        inputs = [constants.get(name) for name in node.input]
        overlaps.add(given.get("iou_threshold", (inputs[3:4] or [None])[0]))
        scores.add(given.get("score_threshold", (inputs[4:5] or [None])[0]))
    compared = (n.input[1] for n in model.graph.node if n.op_type == "Greater")
    return decide(overlaps, scores, (constants.get(name) for name in compared))


def decide(
    overlaps: set[float | None], scores: set[float | None], compared: Iterable[float | None]
) -> Suppression:
    """What the operators of a graph come to.

    Args:
        overlaps, scores: the thresholds of every NMS.
        compared: numbers that something must be greater than, anywhere.
    """
    # Exporters of torch leave out what does not pass before, by a comparison with a number.
    if all(each is None or each <= 0 for each in scores):
        scores = {each for each in compared if each is not None and 0 <= each < 1}
        scores = scores - {0.0} or scores  # shapes are compared with 0, too
    return Suppression(*(_one({_rounded(each) for each in found}) for found in (scores, overlaps)))


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, _DIGITS)


def _one(values: set[float | None]) -> float | None:
    return next(iter(values)) if len(values) == 1 else None


def _constants(model: onnx.ModelProto) -> dict[str, float]:
    """Numbers of the graph by the name of the tensor that holds one alone, as it is or cast: a
    graph in half precision holds the thresholds of its NMS so."""
    from onnx import helper, numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, float] = {}
    for node in model.graph.node:
        if node.op_type == "Constant":
            (given,) = node.attribute
            if given.name == "value":
                tensors[node.output[0]] = given.t
            elif given.name == "value_float":
                found[node.output[0]] = helper.get_attribute_value(given)
    found |= {
        name: round(float(np.ravel(numpy_helper.to_array(tensor))[0]), _DIGITS)
        for name, tensor in tensors.items()
        if not tensor.external_data and np.prod(tensor.dims) == 1
    }
    for node in model.graph.node:  # which stand in their order
        if node.op_type in _PASSED and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found
