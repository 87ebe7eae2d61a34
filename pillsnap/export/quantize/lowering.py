"""A float32 model, and what can be made of it in a lower precision with some nodes left float."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pillsnap.engines.onnxruntime.precision import element_types
from pillsnap.export.quantize.calibration import Ranges
from pillsnap.export.quantize.fp16 import half_nodes, to_fp16
from pillsnap.export.quantize.graph import decode_nodes, has_weights, tidied
from pillsnap.export.quantize.int8 import STATIC_OPS, quantize_static

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Lowering:
    """A way from a float32 model to lower precision.

    Attributes:
        names: of the nodes that can be lowered, in the graph's order.
        heavy: those of them that have weights.
        fixed: of those that stay float whatever is chosen.
        build: the model in which these nodes, and `fixed`, are float.
    """

    model: onnx.ModelProto
    names: tuple[str, ...]
    heavy: frozenset[str]
    fixed: tuple[str, ...]
    build: Callable[[Collection[str]], onnx.ModelProto]


def to_int8_but(
    model: onnx.ModelProto, ranges: Ranges, exclude: Collection[str] | None
) -> Lowering:
    """Static quantisation. Of a detector all but the decoding may be quantised where `exclude`
    names nothing else."""
    fixed = decode_nodes(model) if exclude is None else tuple(sorted(exclude))
    names = [n.name for n in model.graph.node if n.op_type in STATIC_OPS and n.name not in fixed]

    def build(kept: Collection[str]) -> onnx.ModelProto:
        return quantize_static(model, ranges, exclude={*fixed, *kept})

    return Lowering(model, tuple(names), _heavy(model), fixed, build)


def to_fp16_but(model: onnx.ModelProto, exclude: Collection[str]) -> Lowering:
    """Half precision. What to_fp16 leaves float by itself cannot be lowered."""
    from onnx import TensorProto

    clean = tidied(model)
    types = element_types(clean)
    half = half_nodes(clean, types, exclude)
    floats = [n for n in clean.graph.node if types.get(n.output[0]) == TensorProto.FLOAT]

    def build(kept: Collection[str]) -> onnx.ModelProto:
        return to_fp16(model, exclude={*exclude, *kept})

    return Lowering(
        model,
        tuple(node.name for node in floats if node.output[0] in half),
        _heavy(clean),
        tuple(node.name for node in floats if node.output[0] not in half),
        build,
    )


def _heavy(model: onnx.ModelProto) -> frozenset[str]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return frozenset(node.name for node in model.graph.node if has_weights(node, weights))
