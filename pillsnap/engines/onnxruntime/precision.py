"""What a model computes in: the proof that the precision asked for is the file's.

The model's own types count, not what a provider makes of them: the CPU has no float16 kernels, and
casts around every such node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pillsnap.engines.onnxruntime.branches import Conditions, bodies, constant_conditions
from pillsnap.engines.onnxruntime.placement import COMPUTE
from pillsnap.engines.onnxruntime.providers import TENSORRT, Options

if TYPE_CHECKING:
    import onnx

# Compute nodes whose kernels multiply integers, whatever goes in.
_INTEGER = frozenset(
    {
        *("ConvInteger", "QLinearConv", "QGemm", "MatMulInteger", "QLinearMatMul", "QAttention"),
        *("MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    }
)
# Behind a convolution QuantizeLinear absorbs them.
_ABSORBED = frozenset({"Relu", "Clip"})
# What ONNX Runtime moves a DequantizeLinear behind, to meet the node that computes.
_MOVED_BEHIND = frozenset({"MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
_NAMES = {"FLOAT": "fp32", "FLOAT16": "fp16", "INT8": "int8", "UINT8": "int8"}


def read_precision(model: bytes | Path, options: Options) -> dict[str, Any]:
    """In which types the compute nodes of a session run, as plain builtins.

    Args:
        model: what the session was made of: content, or a file with weights beside it.
        options: of the session's providers.
    """
    import onnx

    # TensorRT computes a convolution in integers whether or not its output is quantised again.
    again = TENSORRT not in options
    if isinstance(model, Path):
        proto = onnx.load(model, load_external_data=False)
    else:
        proto = onnx.load_model_from_string(model)
    found = list(compute_types(proto, quantised_again=again))
    by_type = Counter(kind for _, kind, _ in found)
    # It may then compute in float16 what the file holds in float32.
    if options.get(TENSORRT, {}).get("trt_fp16_enable", "").lower() in ("1", "true"):
        by_type["fp16"] += by_type.pop("fp32", 0)
    return {
        "compute_nodes": len(found),
        "compute_nodes_by_type": dict(sorted(by_type.items())),
        "weight_only_nodes": sum(weights for _, _, weights in found),
    }


def compute_types(
    model: onnx.ModelProto, *, quantised_again: bool = True
) -> Iterator[tuple[onnx.NodeProto, str, bool]]:
    """Every compute node that an output depends on, what it multiplies in (fp32, fp16, int8; else
    onnx's name of it, in lower case), and whether its weights are quantised and its activations
    are not.

    Between DequantizeLinear and QuantizeLinear a node runs in integers only where both of what it
    multiplies are dequantised; weights alone are multiplied as floats.

    Args:
        quantised_again: whether a convolution needs a QuantizeLinear behind it for that, as it does
            in ONNX Runtime's own kernels.
    """
    from onnx import TensorProto, inliner

    conditions = constant_conditions(model.graph)
    bare = _without_weights(model)
    bare = inliner.inline_local_functions(bare) if bare.functions else bare
    types = element_types(bare)
    nodes = _nodes(bare.graph, conditions)
    quantised = _quantised(nodes)
    dequantized: dict[str, int] = {}
    for node in nodes:
        if node.op_type == "DequantizeLinear":
            dequantized[node.output[0]] = types.get(node.input[0], TensorProto.UNDEFINED)
        elif node.op_type in _MOVED_BEHIND and node.input[0] in dequantized:
            dequantized[node.output[0]] = dequantized[node.input[0]]
        if node.op_type not in COMPUTE:
            continue
        factors = node.input[:2]
        low = [dequantized[name] for name in factors if name in dequantized]
        whole = len(low) == len(factors)
        floats = quantised_again and "Conv" in node.op_type and node.output[0] not in quantised
        known = (types[name] for name in (*node.output, *factors) if name in types)
        kind = low[0] if whole and not floats else next(known, TensorProto.UNDEFINED)
        name = TensorProto.DataType.Name(kind)
        integer = node.op_type in _INTEGER
        yield (
            node,
            "int8" if integer else _NAMES.get(name, name.lower()),
            node.op_type == "MatMulNBits"
            or (not integer and not whole and not dequantized.keys().isdisjoint(factors[1:])),
        )


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """TensorProto.DataType of every tensor that onnx can infer, by name."""
    from onnx import shape_inference

    types: dict[str, int] = {}
    for graph in _graphs(shape_inference.infer_shapes(_without_weights(model)).graph):
        types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.HasField("tensor_type"):
                types[value.name] = value.type.tensor_type.elem_type
    return types


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its weights as inputs: inference copies a model to and fro."""
    from onnx import helper

    bare = type(model)()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph, source = bare.graph, model.graph
    graph.name = source.name
    for part in ("node", "input", "output", "value_info"):
        getattr(graph, part).extend(getattr(source, part))
    named = {value.name for value in source.input}
    graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in source.initializer
        if tensor.name not in named
    )
    return bare


def _graphs(
    graph: onnx.GraphProto, conditions: Conditions = MappingProxyType({})
) -> Iterator[onnx.GraphProto]:
    """A graph, and the bodies of its nodes that may run."""
    yield graph
    for node in graph.node:
        for body in bodies(node, conditions):
            yield from _graphs(body, conditions)


def captured(node: onnx.NodeProto, conditions: Conditions = MappingProxyType({})) -> Iterator[str]:
    """Names that the bodies of a node use; those from outside are among them."""
    for body in bodies(node, conditions):
        for inner in body.node:
            yield from inner.input
            yield from captured(inner, conditions)
        yield from (value.name for value in body.output)


def _nodes(graph: onnx.GraphProto, conditions: Conditions) -> list[onnx.NodeProto]:
    """The nodes that an output of the graph depends on, those of their bodies that may run among
    them, in order."""
    needed = {value.name for value in graph.output}
    used = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            used.append(node)
            needed.update((*node.input, *captured(node, conditions)))
    found = []
    for node in reversed(used):
        found.append(node)
        for body in bodies(node, conditions):
            found += [other for inner in _graphs(body, conditions) for other in inner.node]
    return found


def _quantised(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Tensors that a QuantizeLinear reads, or reads behind what it absorbs."""
    found: set[str] = set()
    for node in reversed(nodes):
        if node.op_type == "QuantizeLinear" or (
            node.op_type in _ABSORBED and node.output[0] in found
        ):
            found.add(node.input[0])
    return found
