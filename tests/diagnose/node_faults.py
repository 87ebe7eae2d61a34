"""Faults of single nodes: what the diagnosis has to find again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pillsnap.engines.onnxruntime.precision import element_types

OPERATORS = ("Conv", "Gemm", "MatMul", "Add", "Mul")
FACTOR = np.float32(1.05)


@dataclass(frozen=True)
class NodeFault:
    """A node whose weight or output is scaled."""

    node: str
    part: str


def draw(model: onnx.ModelProto, count: int, seed: int) -> list[NodeFault]:
    """Nodes over all of OPERATORS that compute floats, each at most once while there are enough;
    those with weights have their weight or their output scaled, at random."""
    types = element_types(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [
        node
        for node in model.graph.node
        if node.op_type in OPERATORS and types.get(node.output[0]) == TensorProto.FLOAT
    ]
    rng = np.random.default_rng(seed)
    order = [i for _ in range(-(-count // len(nodes))) for i in rng.permutation(len(nodes))]
    faults = []
    for index in order[:count]:
        node = nodes[index]
        weighted = len(node.input) > 1 and node.input[1] in weights
        part = "weight" if weighted and rng.random() < 0.5 else "output"
        faults.append(NodeFault(node.name, part))
    return faults


def inject(
    model: onnx.ModelProto, fault: NodeFault, factor: np.float32 = FACTOR
) -> onnx.ModelProto:
    """A copy with one node's weight or output scaled."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    index = next(i for i, node in enumerate(graph.node) if node.name == fault.node)
    node = graph.node[index]
    if fault.part == "weight":
        tensor = next(t for t in graph.initializer if t.name == node.input[1])
        scaled = numpy_helper.to_array(tensor) * factor
        if sum(list(other.input).count(tensor.name) for other in graph.node) == 1:
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
        else:  # the fault is of this node alone
            graph.initializer.append(numpy_helper.from_array(scaled, "faulty"))
            node.input[1] = "faulty"
        return copy
    output = node.output[0]
    node.output[0] = "before_the_fault"
    graph.initializer.append(numpy_helper.from_array(np.array(factor), "factor"))
    scale = helper.make_node("Mul", ["before_the_fault", "factor"], [output], name="fault")
    graph.node.insert(index + 1, scale)
    return copy
