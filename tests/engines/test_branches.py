"""A branch that is never taken proves nothing of where, or in what, a model computes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pillsnap.config.runtime import Runtime
from pillsnap.engines.onnxruntime.precision import read_precision
from pillsnap.engines.onnxruntime.sessions import open_session

Condition = Literal["initializer", "constant", "not", "computed"]


def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_graph([*nodes], name, [], [output])


def model_with(condition: Condition) -> bytes:
    """A float32 convolution, and one in half precision in the branch that no input takes."""
    cast, node = TensorProto.FLOAT16, helper.make_node
    half = branch(
        "then",
        node("Cast", ["x"], ["xh"], to=cast),
        node("Conv", ["xh", "wh"], ["ch"], name="dead"),
        node("Cast", ["ch"], ["t"], to=TensorProto.FLOAT),
    )
    whole = branch("else", node("Conv", ["x", "w"], ["e"], name="alive"))
    weights = np.ones((4, 3, 1, 1), np.float32)
    tensors = {"w": weights, "wh": weights.astype(np.float16)}
    nodes = []
    if condition == "initializer":
        tensors["c"] = np.array(False)
    elif condition == "constant":
        nodes.append(node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(False))))
    elif condition == "not":
        tensors["opposite"] = np.array(True)
        nodes.append(node("Not", ["opposite"], ["c"]))
    else:
        tensors["none"] = np.array(-1)
        nodes += [node("Size", ["x"], ["size"]), node("Equal", ["size", "none"], ["c"])]
    nodes.append(node("If", ["c"], ["y"], then_branch=half, else_branch=whole))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    found: bytes = model.SerializeToString()
    return found


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("condition", ["initializer", "constant", "not", "computed"])
def test_what_never_runs_is_no_compute(
    condition: Condition, level: Literal["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"]
) -> None:
    model, runtime = model_with(condition), Runtime(graph_optimization_level=level)
    session = open_session(model, "cpu", 1, runtime)
    precision = read_precision(model, session.options)
    # What is computed of the input may be true for another.
    count = 2 if condition == "computed" else 1
    assert session.placement.total == precision["compute_nodes"] == count
    assert ("fp16" in precision["compute_nodes_by_type"]) is (condition == "computed")
