"""Models that do not come to an end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROUNDS = 2**62


def write_looping(good: Path, path: Path, *, above: float) -> None:
    """A classifier that hangs on a batch whose mean, as the model is fed it, is above a number."""
    model = onnx.load(good)
    for node in model.graph.node:
        node.output[:] = ["straight" if name == "logits" else name for name in node.output]
    name = model.graph.input[0].name
    constants = {"above": np.float32(above), "many": np.int64(ROUNDS), "one": np.int64(1)}
    for key, value in {**constants, "go": np.bool_(True)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), key))
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", [name], ["mean"], keepdims=0),
            helper.make_node("Greater", ["mean", "above"], ["hangs"]),
            helper.make_node("Where", ["hangs", "many", "one"], ["rounds"]),
            helper.make_node("Loop", ["rounds", "go", "straight"], ["logits"], body=body),
        ]
    )
    onnx.save(model, path)
