"""What an .onnx file may not ask of the machine that loads it, checked before any runtime."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.errors import EngineError

if TYPE_CHECKING:
    import onnx

# A protobuf holds no more, so a larger file is none.
MAX_BYTES = 2**31 - 1

# The first opset whose operators ONNX Runtime promises to run.
_OLDEST_OPSET = 7


def require_size(path: Path) -> None:
    """Refuse what cannot be a model by its size, before it is read into memory.

    Raises:
        EngineError: missing, no file, empty, or larger than a protobuf can be.
    """
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise EngineError("cannot read the model", where=path, got=reason) from error
    if not path.is_file():
        reason = os.strerror(errno.EISDIR) if path.is_dir() else "not a regular file"
        raise EngineError("cannot read the model", where=path, got=reason)
    if size > MAX_BYTES:
        raise EngineError(
            "the model is larger than an ONNX file can be",
            where=path,
            got=f"{size} bytes",
            expected=f"at most {MAX_BYTES}; larger weights go into a file beside it",
        )


def require_opset(found: int, path: Path) -> None:
    """Refuse an opset that no runtime of this environment knows.

    Raises:
        EngineError: too old or too new.
    """
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST_OPSET <= found <= newest:
        raise EngineError(
            "the model's opset cannot be run",
            where=path,
            got=found,
            expected=f"{_OLDEST_OPSET} to {newest}",
            hint="export it again, with OPSET=17",
        )


def external_files(model: onnx.ModelProto) -> set[str]:
    """Names of the files that hold weights of the model, as they stand in it."""
    return {_entries(tensor).get("location", "") for tensor in _external(model)}


def require_beside(model: onnx.ModelProto, path: Path) -> None:
    """Refuse weights that lie anywhere but in the model's own folder.

    Raises:
        EngineError: an absolute or parent path, a link out of the folder, a file that is missing or
            too short.
    """
    folder = path.resolve().parent
    for tensor in _external(model):
        entries = _entries(tensor)
        name = entries.get("location", "")
        file = folder / name
        if name in ("", ".", "..") or Path(name).name != name or file.resolve().parent != folder:
            raise _refusal(path, f"{tensor.name}: {name!r}", "a file in the model's own folder")
        try:
            end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
            short = not file.is_file() or end > file.stat().st_size or end < 0
        except (OSError, ValueError):
            short = True
        if short:
            raise _refusal(path, f"{tensor.name}: {name!r}", "a file that holds these weights")


def _refusal(path: Path, got: str, expected: str) -> EngineError:
    return EngineError(
        "the model's weights lie in a file that is not to be read",
        where=path,
        got=got,
        expected=expected,
        hint="save the model as one file, or with its weights beside it",
    )


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _external(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    nodes = [node for function in model.functions for node in function.node]
    for tensor in (*_tensors_of_graph(model.graph), *_tensors_of_nodes(nodes)):
        # 1 is TensorProto.EXTERNAL; a location without it is not read by ONNX, but by others.
        if tensor.data_location == 1 or tensor.external_data:
            yield tensor


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors_of_graph(graph)
