"""The thresholds of an NMS inside a file are those of its graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pillsnap.export.suppression import Suppression, find_suppression


def model_of(*nodes: onnx.NodeProto, **numbers: list[float]) -> onnx.ModelProto:
    output = helper.make_tensor_value_info("kept", TensorProto.INT64, None)
    tensors = [
        numpy_helper.from_array(np.array(values, np.float32), name)
        for name, values in numbers.items()
    ]
    return helper.make_model(helper.make_graph([*nodes], "g", [], [output], tensors))


def suppressing(*inputs: str) -> onnx.NodeProto:
    return helper.make_node("NonMaxSuppression", ["boxes", "scores", "", *inputs], ["kept"])


def greater(number: str) -> onnx.NodeProto:
    return helper.make_node("Greater", ["scores", number], [f"above {number}"])


def cast(number: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [number], [f"{number} cast"], to=TensorProto.FLOAT)


@pytest.mark.parametrize(
    ("nodes", "conf", "iou"),
    [
        ([suppressing("iou", "conf")], 0.25, 0.7),
        ([cast("iou"), greater("conf"), suppressing("iou cast")], 0.25, 0.7),  # in half precision
        ([greater("conf"), suppressing("iou")], 0.25, 0.7),
        ([greater("conf"), suppressing("iou"), suppressing("iou", "zero")], 0.25, 0.7),
        # What nothing says, or what says two things, is not known.
        ([suppressing("iou")], None, 0.7),
        ([greater("conf"), greater("iou"), suppressing("iou")], None, 0.7),
        ([suppressing("iou", "conf"), suppressing("conf", "conf")], 0.25, None),
        ([greater("many"), suppressing("computed")], None, None),
    ],
)
def test_thresholds_are_read(
    nodes: list[onnx.NodeProto], conf: float | None, iou: float | None
) -> None:
    model = model_of(*nodes, iou=[0.7], conf=[0.25], zero=[0.0], many=[0.1, 0.2])
    assert find_suppression(model) == Suppression(conf, iou)


def test_those_of_a_plugin_are_its_attributes() -> None:
    node = helper.make_node(
        "EfficientNMS_TRT",
        ["boxes", "scores"],
        ["n", "b", "s", "c"],
        domain="TRT",
        score_threshold=0.25,
        iou_threshold=0.45,
    )
    assert find_suppression(model_of(node)) == Suppression(0.25, 0.45)


def test_a_file_without_says_nothing() -> None:
    assert find_suppression(model_of(greater("conf"), conf=[0.25])) is None
