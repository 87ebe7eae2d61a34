"""The bytes of an .onnx file -> its graph, and what is hashed of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.core.errors import EngineError, first_line
from pillsnap.core.placeholders import find_placeholder
from pillsnap.export.safety import (
    embed_weights,
    require_opset,
    require_self_contained,
    require_size,
)

if TYPE_CHECKING:
    import onnx

    from pillsnap.config.settings import Exporter


def read_onnx(path: Path) -> onnx.ModelProto:
    """Parse a model; weights kept in other files are not read.

    Raises:
        EngineError: the file is missing, unreadable, no whole ONNX model, of an opset that cannot
            be run, or not self-contained, see require_self_contained.
    """
    return read_hashed(path)[0]


def read_with_weights(path: Path) -> onnx.ModelProto:
    """Parse a model with the weights that lie beside it, to run it or parts of it from memory;
    errors are read_onnx's and embed_weights'."""
    model = read_onnx(path)
    embed_weights(model, path)
    return model


def read_hashed(path: Path) -> tuple[onnx.ModelProto, str]:
    """A model as read_onnx gives it, and the SHA-256 of the bytes that it was parsed from."""
    import onnx

    data = read_bytes(path)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError has other bases in other versions
        raise _damaged(path, str(error), data) from error
    require_self_contained(model, path)
    if not (inputs_of(model) and model.graph.output and model.graph.node):
        raise _damaged(path, "a graph without nodes, inputs or outputs", data)
    if not opset_of(model):
        raise _damaged(path, "no opset", data)
    require_opset(opset_of(model), path)
    return model, hashlib.sha256(data).hexdigest()


def read_bytes(path: Path) -> bytes:
    """The file, if a model can be of its size; EngineError where it cannot be read."""
    require_size(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineError("cannot read the model", where=path, got=error.strerror) from error


def graph_sha256(model: onnx.ModelProto) -> str:
    """SHA-256 of a model without its metadata, in hex."""
    bare = type(model)()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def opset_of(model: onnx.ModelProto) -> int:
    """Opset of the standard operators; 0 when the file names none."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def exporter_of(model: onnx.ModelProto) -> Exporter:
    """By what each of torch's exporters leaves in a file."""
    keys = (entry.key for node in model.graph.node for entry in node.metadata_props)
    return "dynamo" if any(key.startswith("pkg.torch.") for key in keys) else "torchscript"


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs that the caller feeds; old files list their weights among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _damaged(path: Path, reason: str, data: bytes) -> EngineError:
    if standing := find_placeholder(data, path):
        return EngineError(
            f"this is {standing.kind}", where=path, expected="a model", hint=standing.hint
        )
    return EngineError(
        "this is not a whole ONNX model: the file is damaged or of another kind",
        where=path,
        got=first_line(reason, 200) or None,
        hint="copy or export it again",
    )
