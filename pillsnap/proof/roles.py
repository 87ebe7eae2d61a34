"""What a fault takes of a graph, by its role in the network and never by a model's own names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pillsnap.export.quantize.graph import COMPUTE, decode_nodes, has_weights
from pillsnap.proof.fault import NotApplicable

if TYPE_CHECKING:
    import onnx

# Names that every detector of ultralytics has for its heads: by boxes and scores, then by stride.
_HEAD = re.compile(r"\.(?:one2one_)?cv[23]\.(\d+)\.")

# A depthwise kernel, or what folds a distribution, is no layer to break.
_LEAST_INPUTS = 16


def layers(model: onnx.ModelProto) -> list[str]:
    """Names of the weights of all convolutions with more than one input channel, in the order of
    the graph; of all that multiplies by weights where there are hardly any convolutions."""
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found: list[str] = []
    for kinds in ({"Conv"}, COMPUTE):
        names = [
            node.input[1]
            for node in model.graph.node
            if node.op_type in kinds and len(node.input) > 1 and node.input[1] in weights
        ]
        found = [
            name
            for name in dict.fromkeys(names)
            if numpy_helper.to_array(weights[name])[0].size > _LEAST_INPUTS
        ]
        if len(found) >= 3:
            break
    if not found:
        raise NotApplicable("no layer of this graph has weights of its own")
    return found


def multiplied(model: onnx.ModelProto) -> list[str]:
    """Names of the weights of every layer, the smallest and the last included, in the graph's
    order."""
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = (node for node in model.graph.node if has_weights(node, weights))
    return list(dict.fromkeys(name for node in nodes for name in node.input[:2] if name in weights))


def middle(model: onnx.ModelProto) -> str:
    """Name of the weight of a layer in the middle of the network."""
    names = layers(model)
    return names[len(names) // 2]


def find(model: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    """All nodes of these kinds; raises NotApplicable where there are none."""
    found = [node for node in model.graph.node if node.op_type in kinds]
    if not found:
        raise NotApplicable(f"the graph has no {' or '.join(kinds)}")
    return found


def classifier_head(model: onnx.ModelProto) -> onnx.NodeProto:
    """The last node that multiplies by weights of the file: it makes the logits."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [node for node in find(model, *COMPUTE) if has_weights(node, weights)][-1]


def score_sigmoid(model: onnx.ModelProto) -> onnx.NodeProto:
    """The sigmoid of a detector's scores: the last of all, behind its last convolutions."""
    return _decoding(model, "Sigmoid")


def box_softmax(model: onnx.ModelProto) -> onnx.NodeProto:
    """The softmax over a detector's distances of box edges."""
    return _decoding(model, "Softmax")


def _decoding(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    decoding = set(decode_nodes(model))
    found = [node for node in find(model, kind) if node.name in decoding]
    if not found:
        raise NotApplicable(f"no {kind} decodes this detector's outputs")
    return found[-1]


def heads(model: onnx.ModelProto) -> list[list[str]]:
    """Names of the weights of a detector's heads, by stride from the smallest."""
    of_stride: dict[int, list[str]] = {}
    for tensor in model.graph.initializer:
        found = _HEAD.search(tensor.name)
        if found:
            of_stride.setdefault(int(found[1]), []).append(tensor.name)
    if not of_stride:
        raise NotApplicable("the file does not name the weights of its heads")
    return [of_stride[stride] for stride in sorted(of_stride)]


def activations(model: onnx.ModelProto) -> list[str]:
    """Names of the tensors that layers read, the images aside."""
    weights = {tensor.name for tensor in model.graph.initializer}
    images = model.graph.input[0].name
    read = [node.input[0] for node in find(model, *COMPUTE) if has_weights(node, weights)]
    return [name for name in dict.fromkeys(read) if name != images]
