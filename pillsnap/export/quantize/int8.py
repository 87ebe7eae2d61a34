"""ONNX in float32 to ONNX with weights of eight bits, by ONNX Runtime's quantisers."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.engines.onnxruntime.precision import compute_types
from pillsnap.export.onnxfile import stage_of
from pillsnap.export.quantize.calibration import Ranges
from pillsnap.export.quantize.graph import (
    COMPUTE,
    drop_unused_weights,
    head_nodes,
    require_nodes,
    tidied,
)
from pillsnap.export.quantize.silenced import quantising

if TYPE_CHECKING:
    import onnx

# What static quantisation works on. Not Sigmoid, Tanh and Softmax, which eight bits hurt most, and
# for their sake not Mul: x * sigmoid(x) between two quantised operators is quantised itself, since
# ONNX Runtime fuses whatever stands between a DequantizeLinear and a QuantizeLinear. To exclude
# Sigmoid alone changes nothing.
STATIC_OPS = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "Clip", "LeakyRelu", "Add"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Concat", "Split", "Pad"),
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"),
)
_INFERRED = ("onnx.infer", "onnxruntime.quant")


def quantize_static(
    model: onnx.ModelProto,
    ranges: Ranges,
    *,
    exclude: Collection[str] | None = None,
) -> onnx.ModelProto:
    """Quantise weights per channel and activations per tensor, as QuantizeLinear/DequantizeLinear.

    Activations are uint8 with a zero point, weights int8 of 7 bits: with 8 the CPUs without VNNI
    overflow their 16-bit sums and answer something else than those with it (ONNX Runtime's
    documentation of quantisation, "reduce_range"). 7 bits cost the demo nothing measurable.

    Args:
        model: as pillsnap.export writes it; it stays as it is.
        ranges: of measure_ranges, over STATIC_OPS.
        exclude: names of nodes that stay float; None leaves a detector's head and decoding float,
            without which YOLO's mAP is 0: pixels and scores would share one scale of 256 steps.

    Raises:
        ExportError: a name is of no node, or ONNX Runtime cannot quantise the model.
    """
    excluded = checked(model, exclude)
    with quantising(f"the {stage_of(model)} model"):
        return _with_qdq(model, ranges, excluded)


def quantize_dynamic(
    model: onnx.ModelProto, *, exclude: Collection[str] | None = None
) -> onnx.ModelProto:
    """Quantise weights per tensor; activations are quantised while the model runs, by their range
    over the whole batch, so an image's result depends on those it is batched with.

    Needs no calibration and makes the smallest file, but 8-bit convolutions of this kind are no
    faster than float32 on CPUs, often slower. Arguments and errors are those of quantize_static.
    """
    import onnx
    from onnxruntime import quantization

    excluded = checked(model, exclude)
    source = tidied(model)
    with (
        quantising(f"the {stage_of(model)} model"),
        tempfile.TemporaryDirectory(prefix="pillsnap-") as folder,
    ):
        path = Path(folder, "dynamic.onnx")
        quantization.quantize_dynamic(
            source,
            path,
            op_types_to_quantize=sorted(COMPUTE),
            # ONNX Runtime's CPU kernel of ConvInteger takes no int8 weights.
            weight_type=quantization.QuantType.QUInt8,
            # It makes MatMul of Gemm first, under another name.
            nodes_to_exclude=sorted(excluded | {f"{name}_MatMul" for name in excluded}),
        )
        return _cleaned(onnx.load(path), model)


def checked(model: onnx.ModelProto, names: Collection[str] | None) -> frozenset[str]:
    """Names of nodes that stay float, the head's for None; ExportError for one of no node."""
    if names is None:
        return frozenset(head_nodes(model))
    require_nodes(model, names)
    return frozenset(names)


def _with_qdq(model: onnx.ModelProto, ranges: Ranges, excluded: Collection[str]) -> onnx.ModelProto:
    import numpy as np
    from onnx import shape_inference
    from onnxruntime import quantization
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

    # ONNX Runtime's quantize_static calibrates anew each time, in files, and turns the weights of
    # the model it is given into references to a file it deletes; its quantiser does neither.
    source = shape_inference.infer_shapes(tidied(model))
    source.metadata_props.add(key=_INFERRED[0], value=_INFERRED[1])
    data = {
        name: TensorData(lowest=np.array(low), highest=np.array(high))
        for name, (low, high) in ranges.items()
    }
    quantizer = quantization.QDQQuantizer(
        source,
        True,  # per channel
        True,  # reduce_range
        quantization.QuantType.QInt8,
        quantization.QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, data),
        None,
        sorted(excluded),
        list(STATIC_OPS),
        {},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return _cleaned(quantizer.model.model, model)


def _cleaned(result: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """The result with the metadata of what it was made from, all nodes named, and nothing that is
    not used."""
    for node in result.graph.node:
        node.name = node.name or f"{node.output[0]}/{node.op_type}"
    del result.metadata_props[:]
    result.metadata_props.extend(source.metadata_props)
    del result.graph.value_info[:]
    drop_unused_weights(result.graph)
    return result


def count_compute(model: onnx.ModelProto) -> tuple[int, tuple[str, ...]]:
    """Nodes that multiply in fewer bits than float32, and the names of those that do not."""
    found = list(compute_types(model))
    left = tuple(node.name for node, kind, _ in found if kind == "fp32")
    return len(found) - len(left), left
