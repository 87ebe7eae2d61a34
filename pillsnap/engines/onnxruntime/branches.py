"""Which branch of an If runs, where the file holds its condition: the other never does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# As an operator's name stands in a file: parsing a large one takes a while.
_OPERATOR = b"\x22\x02If"

Conditions = Mapping[str, bool]


def constant_conditions(graph: onnx.GraphProto) -> Conditions:
    """The truth values that a graph holds by themselves, by name."""
    from onnx import numpy_helper

    given = {value.name for value in graph.input}
    tensors = {each.name: each for each in graph.initializer if each.name not in given}
    found: dict[str, bool] = {}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    for name, tensor in tensors.items():
        if tensor.data_type == tensor.BOOL and not tensor.external_data:
            values = numpy_helper.to_array(tensor).ravel()
            if values.size == 1:
                found[name] = bool(values[0])
    for node in graph.node:  # which stand in their order
        if node.op_type in ("Identity", "Not") and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]] is (node.op_type == "Identity")
    return found


def bodies(node: onnx.NodeProto, conditions: Conditions) -> Iterator[onnx.GraphProto]:
    """The bodies of a node (If, Loop, Scan) that may run."""
    taken = conditions.get(node.input[0]) if node.op_type == "If" and node.input else None
    dead = None if taken is None else "else_branch" if taken else "then_branch"
    for attribute in node.attribute:
        if attribute.name != dead:
            yield from (attribute.g, *attribute.graphs)


def never_run(model: bytes | Path) -> frozenset[str]:
    """Names of the nodes in branches that no input takes; those that share a name are left out.

    Args:
        model: its content, or the file.
    """
    import onnx

    if isinstance(model, bytes):
        if _OPERATOR not in model:
            return frozenset()
        graph = onnx.load_model_from_string(model).graph
    else:
        graph = onnx.load(model, load_external_data=False).graph
    every = Counter(node.name for node in _nodes(graph, {}))
    live = {node.name for node in _nodes(graph, constant_conditions(graph))}
    return frozenset(name for name, count in every.items() if name not in live and count == 1)


def _nodes(graph: onnx.GraphProto, conditions: Conditions) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for body in bodies(node, conditions):
            yield from _nodes(body, conditions)
