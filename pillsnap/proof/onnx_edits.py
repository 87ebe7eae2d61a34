"""Small edits of ONNX graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

Weights = NDArray[Any]


def float_weights(model: onnx.ModelProto) -> list[str]:
    """Names of all weights in float32."""
    import onnx

    kind = onnx.TensorProto.FLOAT
    return [tensor.name for tensor in model.graph.initializer if tensor.data_type == kind]


def change(model: onnx.ModelProto, name: str, how: Callable[[Weights], Weights]) -> onnx.ModelProto:
    """Replace a weight by what `how` makes of it; its type stays."""
    from onnx import numpy_helper

    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(how(values.copy()).astype(values.dtype), name))
    return model


def change_all(model: onnx.ModelProto, how: Callable[[Weights], Weights]) -> onnx.ModelProto:
    """Replace every weight in float32."""
    for name in float_weights(model):
        change(model, name, how)
    return model


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    from onnx import helper

    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def insert_after(model: onnx.ModelProto, tensor: str, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Put a chain of nodes behind a tensor: its first input is "x", its last output "y".

    Whoever read the tensor reads the chain's output; an output of the graph keeps its name.
    """
    graph = model.graph
    is_output = any(value.name == tensor for value in graph.output)
    source, target = (f"{tensor}/before", tensor) if is_output else (tensor, f"{tensor}/after")
    place = 0
    for index, other in enumerate(graph.node):
        names = other.output if is_output else other.input
        for slot, name in enumerate(names):
            if name == tensor:
                names[slot] = source if is_output else target
        if tensor in other.output or source in other.output:
            place = index + 1
    for added in nodes:
        for names in (added.input, added.output):
            for slot, name in enumerate(names):
                if name in ("x", "y"):
                    names[slot] = source if name == "x" else target
    for added in reversed(nodes):
        graph.node.insert(place, added)
    return model


def add_constant(model: onnx.ModelProto, name: str, values: Any) -> str:
    """Add a weight; returns its name."""
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name
