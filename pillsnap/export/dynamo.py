"""torch's newer exporter, which reads a graph of torch.export instead of tracing one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.core.errors import ExportError

if TYPE_CHECKING:
    import onnx
    import torch

# Which module of the network a node comes from. The other notes that the exporter leaves hold paths
# of this machine.
_KEPT = "pkg.torch.onnx.name_scopes"


def export_dynamo(
    module: torch.nn.Module,
    shape: tuple[int, int, int, int],
    *,
    opset: int,
    input_name: str,
    output_name: str,
    free: Mapping[int, str],
) -> onnx.ModelProto:
    """The graph of a network with one input and one output.

    Args:
        module: maps a tensor of `shape` to a tensor.
        opset: 18 or later.
        free: names of the input's free axes, by index.

    Raises:
        ExportError: onnxscript is not installed.
    """
    import onnx
    import torch

    if find_spec("onnxscript") is None:
        raise ExportError(
            "the dynamo exporter needs onnxscript, which is not installed",
            where="export.exporter",
            hint="pip install onnxscript, or set export.exporter: torchscript",
        )
    dynamic: Any = torch.export.Dim.DYNAMIC
    # torch.export takes a size of 1 for a constant.
    batch = max(2, shape[0]) if 0 in free else shape[0]
    with tempfile.TemporaryDirectory(prefix="pillsnap-") as folder:
        file = Path(folder, "model.onnx")
        torch.onnx.export(
            module,
            (torch.zeros((batch, *shape[1:])),),
            file,
            dynamo=True,
            opset_version=opset,
            input_names=[input_name],
            output_names=[output_name],
            dynamic_shapes=(dict.fromkeys(free, dynamic),) if free else None,
            external_data=False,
            verbose=False,
        )
        model = onnx.load(file)
    _name_axes(model, free)
    _forget_machine(model)
    return model


def _name_axes(model: onnx.ModelProto, free: Mapping[int, str]) -> None:
    """Give the free axes their names in place of s34 and the like. Shapes in between, which are
    formulas of those, are not kept: ONNX Runtime infers its own."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    names = {dims[axis].dim_param: name for axis, name in free.items()}
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
    del model.graph.value_info[:]


def _forget_machine(model: onnx.ModelProto) -> None:
    """Take out what would make the file another one on another machine."""
    graph = model.graph
    for part in (model, graph, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
    for node in graph.node:
        scopes = [entry.value for entry in node.metadata_props if entry.key == _KEPT]
        del node.metadata_props[:]
        for value in scopes:
            node.metadata_props.add(key=_KEPT, value=value)
