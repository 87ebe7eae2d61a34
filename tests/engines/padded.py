"""A model of five nodes that ONNX Runtime's Pad fusion changes.

It puts a Pad of zeros into the MaxPool behind it, whose own padding counts as less than any number;
behind SiLU there are numbers less than zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save


def save_padded(path: Path) -> Path:
    """`images` [N,3,8,8] to `output` [N,2,8,8], both float32."""
    weights = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    pads = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["silu"]),
        helper.make_node("Pad", ["silu", "pads"], ["padded"]),
        helper.make_node("MaxPool", ["padded"], ["output"], kernel_shape=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 2, 8, 8])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(pads, "pads")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def image() -> np.ndarray:
    """[1,3,8,8] float32."""
    return np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
