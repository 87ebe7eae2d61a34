"""What an ONNX graph is made of: the nodes that compute, and those that are a detector's head."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pillsnap.core.errors import ExportError
from pillsnap.engines.onnxruntime.precision import captured
from pillsnap.export.forms import FORMS
from pillsnap.export.onnxfile import stage_of

if TYPE_CHECKING:
    import onnx

# Operators that multiply by trained weights: where a network's size and time are.
COMPUTE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every constant float is an initializer under the name its users know.

    Exporters hide weights behind Constant nodes, and behind Identity where two tensors are equal;
    ONNX Runtime then leaves the operators that use them in float32 without a word. Shapes of inner
    tensors are dropped, since conversion makes them wrong.
    """
    from onnx import TensorProto

    copy = type(model)()
    copy.CopyFrom(model)
    graph = copy.graph
    del graph.value_info[:]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        found = None
        if node.op_type == "Identity":
            found = tensors.get(node.input[0])
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            found = node.attribute[0].t
        if found is None or found.data_type != TensorProto.FLOAT or node.output[0] in outputs:
            kept.append(node)
            continue
        tensor = graph.initializer.add()
        tensor.CopyFrom(found)
        tensor.name = node.output[0]
        tensors[tensor.name] = tensor
    del graph.node[:]
    graph.node.extend(kept)
    return copy


def require_nodes(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Raise ExportError where a name is of no node."""
    strangers = set(names) - {node.name for node in model.graph.node}
    if strangers:
        raise ExportError(
            "the model has no node of this name",
            where=f"the {stage_of(model)} model",
            got=", ".join(sorted(strangers)[:5]),
            expected="names of nodes, as Netron shows them",
        )


def drop_unused_weights(graph: onnx.GraphProto) -> None:
    """Remove the initializers that no node and no output uses."""
    used = {name for node in graph.node for name in (*node.input, *captured(node))}
    used |= {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def has_weights(node: onnx.NodeProto, initializers: set[str]) -> bool:
    """Whether a node multiplies by weights of the file."""
    return node.op_type in COMPUTE and any(name in initializers for name in node.input[:2])


def head_nodes(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the nodes of a YOLO detector's head and of what decodes it; () for a classifier.

    Found by structure, so it holds for any exporter's names: the head ends where the decoding
    begins, in one last convolution for the boxes and one for the scores of each level, and what
    leads to only one of these belongs to it. What leads to several is the neck.
    """
    nodes = model.graph.node
    made_by = makers(nodes)
    decoding, last = _decoding(model)
    leads_to = np.zeros(len(nodes), np.int64)
    for index in last:
        leads_to[list(ancestors(nodes, made_by, index))] += 1
    # With one last convolution nothing tells a head from the network.
    own = {index for index in range(len(nodes)) if leads_to[index] == 1} if len(last) > 1 else set()
    return tuple(nodes[index].name for index in sorted(own | set(last) | decoding))


def decode_nodes(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the nodes after a detector's last convolutions; () for a classifier.

    They make pixels and a class index of what the network answers: 16 bits would round pixels past
    1024 to whole ones and the index 2049 to 2048.
    """
    decoding, _ = _decoding(model)
    return tuple(model.graph.node[index].name for index in sorted(decoding))


def _decoding(model: onnx.ModelProto) -> tuple[set[int], list[int]]:
    """Indices of the nodes that decode, and of the last ones with weights before them."""
    form = FORMS.get(stage_of(model))
    if form is None or form.columns is None:
        return set(), []
    nodes = model.graph.node
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = makers(nodes)
    decoding: set[int] = set()
    last: set[int] = set()
    todo = [made_by[value.name] for value in model.graph.output if value.name in made_by]
    while todo:
        index = todo.pop()
        node = nodes[index]
        if index in decoding or index in last:
            continue
        if has_weights(node, set(initializers)) and not _is_expectation(node, initializers):
            last.add(index)
            continue
        decoding.add(index)
        # Anchors are made from the shapes of the features, not from what is in them.
        if node.op_type != "Shape":
            todo.extend(made_by[name] for name in node.input if name in made_by)
    return decoding, sorted(last)


def _is_expectation(node: onnx.NodeProto, initializers: dict[str, onnx.TensorProto]) -> bool:
    """Whether a Conv is YOLO's DFL, the mean of a distribution over 0, 1, ..., its weights."""
    from onnx import numpy_helper

    tensor = initializers.get(node.input[1])
    if tensor is None or len(tensor.dims) != 4 or tensor.dims[0] != 1 or len(node.input) > 2:
        return False
    weights = numpy_helper.to_array(tensor).ravel()
    return len(weights) > 1 and bool(np.array_equal(weights, np.arange(len(weights))))


def makers(nodes: Sequence[onnx.NodeProto]) -> dict[str, int]:
    """Index of the node that makes a tensor, by the tensor's name."""
    return {name: index for index, node in enumerate(nodes) for name in node.output if name}


def ancestors(
    nodes: Sequence[onnx.NodeProto],
    made_by: Mapping[str, int],
    index: int,
    stops: Callable[[str], bool] = lambda _: False,
) -> set[int]:
    """Indices of the nodes that one depends on.

    Args:
        made_by: of `makers`.
        stops: whether a tensor, by its name, is not to be gone behind.
    """
    found: set[int] = set()
    todo = [index]
    while todo:
        for name in nodes[todo.pop()].input:
            maker = made_by.get(name)
            if maker is not None and maker not in found and not stops(name):
                found.add(maker)
                todo.append(maker)
    return found
