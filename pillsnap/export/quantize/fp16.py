"""ONNX in float32 to ONNX with weights and arithmetic in float16.

ONNX Runtime's own converter (onnxruntime.transformers.float16) writes the same Cast several times
and in an order that onnx.checker refuses as soon as some nodes stay in float32. Here every node is
visited once, in the graph's order, and what it needs is cast before it: nothing to mend afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from pillsnap.engines.onnxruntime.precision import captured, element_types
from pillsnap.export.quantize.graph import (
    decode_nodes,
    drop_unused_weights,
    has_weights,
    require_nodes,
    tidied,
)

if TYPE_CHECKING:
    import onnx

# Operators that stay in float32.
_FLOAT_OPS = frozenset(
    {
        # Sums over many elements, squares and exponentials pass 65504, float16's largest number.
        *("ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"),
        *("ReduceLogSumExp", "ReduceProd", "GlobalAveragePool", "CumSum", "Pow", "Exp", "Log"),
        *("Softmax", "LogSoftmax", "Softplus", "Einsum"),
        # Their variances and epsilons fall below 6e-8, float16's smallest number.
        *("BatchNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization"),
        *("GroupNormalization", "Sqrt", "Reciprocal"),
        # Coordinates and indices need more than 11 bits.
        *("Range", "GridSample", "RoiAlign", "NonMaxSuppression", "TopK"),
        # Types are their business, or ONNX Runtime has no float16 kernel for them.
        *("Cast", "ConstantOfShape", "EyeLike", "Multinomial", "Bernoulli", "RandomNormal"),
        *("RandomNormalLike", "RandomUniform", "RandomUniformLike", "QuantizeLinear"),
        *("DequantizeLinear", "DynamicQuantizeLinear", "Upsample", "If", "Loop", "Scan"),
    }
)
# Inputs that are float32 whatever the operator's type: Resize's roi and scales.
_FLOAT_INPUTS = {"Resize": (1, 2)}


def to_fp16(model: onnx.ModelProto, *, exclude: Collection[str] = ()) -> onnx.ModelProto:
    """Convert a float32 model; the argument stays as it is.

    Inputs and outputs stay float32, and so do a detector's decoding, operators that break in half
    precision, weights that are too large for it, and what is computed from nothing but these.

    Args:
        model: as pillsnap.export writes it: in topological order, every node named.
        exclude: names of further nodes that stay float.

    Returns:
        The same graph, opset, axes and metadata, with Cast nodes where precision changes.

    Raises:
        ExportError: a name is of no node.
    """
    require_nodes(model, exclude)
    result = tidied(model)
    types = element_types(result)
    in_half = half_nodes(result, types, exclude)
    _rewrite(result, types, in_half)
    drop_unused_weights(result.graph)
    return result


def half_nodes(
    model: onnx.ModelProto, types: Mapping[str, int], exclude: Collection[str]
) -> set[str]:
    """Outputs of the nodes that are to run in float16.

    Args:
        model: tidied.
        types: of element_types.
        exclude: as of to_fp16.
    """
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    weights = {
        tensor.name: _fits(numpy_helper.to_array(tensor))
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    decoding = {*decode_nodes(model), *exclude}
    bodies = {name for node in graph.node for name in captured(node)}
    half: set[str] = set()
    for node in graph.node:
        stays = (
            node.op_type in _FLOAT_OPS
            or node.domain not in ("", "ai.onnx")
            or node.name in decoding
            or not bodies.isdisjoint(node.output)
            or any(types.get(name) != TensorProto.FLOAT for name in node.output[:1])
            or not all(weights.get(name, True) for name in node.input)
        )
        # A cast to half for nothing but a sum or a reshape of float32 would only lose digits.
        reached = has_weights(node, set(weights)) or not half.isdisjoint(node.input)
        if not stays and reached:
            half.update(node.output)
    return half


def _fits(values: np.ndarray) -> bool:
    """Whether no number that float32 holds becomes infinite."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values.astype(np.float16)).sum() == np.isfinite(values).sum())


def _rewrite(model: onnx.ModelProto, types: Mapping[str, int], half: Collection[str]) -> None:
    """Give each node its inputs in its own precision, in one pass over the graph.

    Args:
        types: element types of all tensors.
        half: outputs of the nodes that run in float16.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    outputs = {value.name for value in graph.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    # Name of a tensor's copy in the other precision than its own, once there is one.
    copies: dict[str, str] = {}

    def cast(source: str, target: str, to_half: bool) -> None:
        kind = TensorProto.FLOAT16 if to_half else TensorProto.FLOAT
        name = f"{target}/Cast"
        nodes.append(helper.make_node("Cast", [source], [target], name=name, to=kind))

    def name_in(name: str, in_half: bool) -> str:
        """Name under which a float tensor can be had in a precision."""
        # An output of the graph is float32 itself, whatever made it.
        own = name in half and name not in outputs
        if types.get(name) != TensorProto.FLOAT or in_half == own:
            return name
        if name not in copies:
            copies[name] = f"{name}/half" if in_half else f"{name}/float"
            if name in weights:
                values = numpy_helper.to_array(weights[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(values, copies[name]))
            else:
                cast(name, copies[name], in_half)
        return copies[name]

    for node in graph.node:
        made = list(node.output)
        in_half = any(name in half for name in made)
        keep = _FLOAT_INPUTS.get(node.op_type, ())
        for index, name in enumerate(node.input):
            node.input[index] = name_in(name, in_half and index not in keep)
        nodes.append(node)
        for index, name in enumerate(made):
            if in_half and name in outputs:
                node.output[index] = copies[name] = f"{name}/half"
                cast(copies[name], name, False)
    del graph.node[:]
    graph.node.extend(nodes)
