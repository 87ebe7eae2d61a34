"""ONNX graphs with their inner tensors laid open: who makes what, and what it holds at run time.

Inner tensors are read as further outputs, with graph optimisation off so that each still exists,
and in taps whose tensors fit together into a bound of memory.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import EngineError, first_line
from pillsnap.engines import Batch
from pillsnap.engines.onnxruntime.sessions import open_in_memory
from pillsnap.export.quantize.graph import ancestors, makers
from pillsnap.export.quantize.run_graph import fed

if TYPE_CHECKING:
    import onnx

TAP_BYTES = 512 * 2**20
"""Most memory that the tensors of one tap may take, all models together."""

# Where the dynamo exporter notes which module a node comes from.
_SCOPES = "pkg.torch.onnx.name_scopes"

# What a detector is inside of while dynamo exports it (export/detector.py).
_WRAPPER = "network."

Tensors = dict[str, NDArray[Any]]


class Graph:
    """A model and who makes which of its tensors.

    Attributes:
        nodes: in topological order, constants left out.
        maker: index in `nodes` by tensor.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = [node for node in model.graph.node if node.op_type != "Constant"]
        self.maker = makers(self.nodes)

    def operator(self, tensor: str) -> str:
        """Type of the node that makes a tensor."""
        return str(self.nodes[self.maker[tensor]].op_type)

    def between(self, index: int, agreed: Callable[[str], bool]) -> list[int]:
        """A node and those before it, back to tensors that are known to agree; sorted."""
        return sorted({index, *ancestors(self.nodes, self.maker, index, agreed)})


def module_path(node: onnx.NodeProto) -> str:
    """Path of the torch module that a node was exported from, as in "model.0.conv"; "" for the
    network itself, or where the file does not tell.

    Dynamo notes all modules around a node. TorchScript names nodes /model.0/conv/Conv; children of
    a Sequential repeat their parent there, as in /layer1/layer1.0/conv1/Conv.
    """
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scopes = ast.literal_eval(entry.value)
            path = str(scopes[-2]) if len(scopes) > 1 else ""
            return path.removeprefix(_WRAPPER)
    path = parent = ""
    for part in node.name.split("/")[1:-1]:
        if parent and part.startswith(parent + "."):
            path = path.removesuffix(parent)
        elif path:
            path += "."
        path, parent = path + part, part
    return path


def open_taps(
    model: onnx.ModelProto, names: Sequence[str], threads: int
) -> Callable[[Batch | Tensors], Tensors]:
    """A function that runs a model on its input, or its inputs by name, and returns the named
    tensors; EngineError where ONNX Runtime refuses the model, or in the function the batch."""
    import onnx

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        session = open_in_memory(tapped, threads, optimise=False)
    except Exception as error:  # ORT's exceptions share no base
        raise EngineError("ONNX Runtime cannot load this graph", got=first_line(error)) from error

    def run(given: Batch | Tensors) -> Tensors:
        feed = given if isinstance(given, dict) else fed(session, given)
        try:
            found = session.run(list(names), feed)
        except Exception as error:  # as above
            raise EngineError(
                "ONNX Runtime cannot run this graph", got=first_line(error)
            ) from error
        return dict(zip(names, found, strict=True))

    return run


def tap_groups(
    model: onnx.ModelProto, names: Sequence[str], shape: Sequence[int], limit: int
) -> Iterator[list[str]]:
    """Cut tensors into groups, in order, that take at most `limit` bytes together; at least one.

    Args:
        shape: of the input, [N,3,H,W].
    """
    sizes = _sizes(model, shape)
    largest = max(sizes.values(), default=limit)
    group: list[str] = []
    total = 0
    for name in names:
        size = sizes.get(name, largest)
        if group and total + size > limit:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group


def _sizes(model: onnx.ModelProto, shape: Sequence[int]) -> Mapping[str, int]:
    """Bytes of every tensor whose shape onnx can infer for an input of this shape."""
    import onnx
    from onnx import helper

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for dim, size in zip(fixed.graph.input[0].type.tensor_type.shape.dim, shape, strict=False):
        dim.dim_value = size
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    sizes = {}
    for value in (*inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            width = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).itemsize
            sizes[value.name] = width * math.prod(dim.dim_value for dim in dims)
    return sizes


def relative_error(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Largest absolute difference over the largest absolute value; inf for other shapes, or where
    only one side is finite."""
    if found.shape != wanted.shape:
        return math.inf
    if not wanted.size:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = found.astype(np.float64), wanted.astype(np.float64)
        finite = np.isfinite(b)
        if not np.array_equal(finite, np.isfinite(a)):
            return math.inf
        difference = np.abs(a - b)[finite].max(initial=0.0)
        scale = np.abs(b)[finite].max(initial=0.0)
    if difference == 0:
        return 0.0
    return float(difference / scale) if scale else math.inf
