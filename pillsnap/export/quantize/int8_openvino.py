"""ONNX in float32 to a graph of OpenVINO's own with INT8 inside, by NNCF.

OpenVINO fuses what ONNX Runtime's quantiser writes into another function: see docs/providers.md.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pillsnap.core.alternatives import NNCF, OPENVINO
from pillsnap.engines.openvino.reading import read_model
from pillsnap.export.onnxfile import stage_of
from pillsnap.export.quantize.calibration import Calibration
from pillsnap.export.quantize.int8 import checked
from pillsnap.export.quantize.silenced import quantising

if TYPE_CHECKING:
    import onnx
    import openvino

_COMPUTE = {
    *("Convolution", "GroupConvolution", "MatMul"),
    *("ConvolutionBackpropData", "GroupConvolutionBackpropData"),
}

# What values pass through as they are, or chosen among: quantised before, they are behind it.
_PASSED = {
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Concat", "Split", "Slice"),
    *("VariadicSplit", "StridedSlice", "Pad", "Interpolate", "Convert", "Multiply", "Subtract"),
}


def quantize_openvino(
    model: onnx.ModelProto, calibration: Calibration, *, exclude: Collection[str] | None = None
) -> tuple[openvino.Model, Mapping[str, int], tuple[str, ...]]:
    """Quantise weights per channel and activations per tensor, with NNCF's correction of biases.

    Args:
        model: as pillsnap.export writes it; it stays as it is.
        exclude: names of nodes that stay float; None leaves a detector's head and decoding float.

    Returns:
        The graph; how many nodes compute in INT8, `nodes_low`, and on how many images it was
        calibrated, `calibration_images`; the names of those that compute in float.

    Raises:
        EngineMissing: NNCF or OpenVINO is not installed; EngineError: in another version.
        ExportError: a name is of no node, or NNCF cannot quantise the model.
    """
    OPENVINO.require()
    NNCF.require()
    import openvino

    excluded = checked(model, exclude)
    with quantising(f"the {stage_of(model)} model", "NNCF"), no_telemetry():
        import nncf

        last = outputs_of(model)
        named = {*excluded, *(each for name in excluded for each in last.get(name, ()))}
        source = read_model(openvino.Core(), model.SerializeToString())
        images = list(calibration.batches())
        result = nncf.quantize(
            source,
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(
                # Of nodes that became one with others nothing is left to name.
                names=sorted(_names_of(source, named)),
                validate=False,
            ),
        )
    compute = [node for node in result.get_ops() if node.get_type_name() in _COMPUTE]
    left = tuple(sorted(node.get_friendly_name() for node in compute if not _is_low(node)))
    counts = {"nodes_low": len(compute) - len(left), "calibration_images": len(images)}
    return result, counts, left


def outputs_of(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Outputs of the graph, by the node that gives them: OpenVINO calls it by them."""
    outputs = {output.name for output in model.graph.output}
    last = {
        node.name: [name for name in node.output if name in outputs] for node in model.graph.node
    }
    return {name: found for name, found in last.items() if found}


@contextmanager
def no_telemetry() -> Iterator[None]:
    """NNCF tells its makers of every call where it finds the package that does."""
    name = "openvino_telemetry"
    known = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if known is not None:
            sys.modules[name] = known


def _names_of(model: openvino.Model, nodes: Collection[str]) -> Iterator[str]:
    """What the operators are called that nodes of an .onnx became: Conv is Conv/WithoutBiases."""
    for node in model.get_ops():
        name = node.get_friendly_name()
        if name in nodes or name.rpartition("/")[0] in nodes:
            yield name


def _is_low(node: openvino.Node) -> bool:
    """Whether both of what a node multiplies are of eight bits."""
    return all(_is_quantised(node.input_value(index).get_node()) for index in (0, 1))


def _is_quantised(node: openvino.Node) -> bool:
    while node.get_type_name() in _PASSED:
        node = node.input_value(0).get_node()
    weights = node.get_type_name() == "Constant" and node.get_output_element_type(0)
    return node.get_type_name() == "FakeQuantize" or (
        bool(weights) and weights.get_type_name() in ("i8", "u8")
    )
