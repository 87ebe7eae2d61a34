"""Models into OpenVINO: an .onnx, or a graph of its own with the weights beside it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pillsnap.core.errors import EngineError, first_line
from pillsnap.core.modelfiles import IR, model_files, sha256_of
from pillsnap.engines.protocol import ModelFile

if TYPE_CHECKING:
    import openvino


class Ir(NamedTuple):
    """The bytes of a graph of OpenVINO's own, and of its weights."""

    graph: bytes
    weights: bytes

    @property
    def sha256(self) -> str:
        """As sha256_model's of the files."""
        return sha256_of([hashlib.sha256(each).digest() for each in self])


Source = Path | bytes | Ir
"""What is read: the bytes that were hashed, or the path of an .onnx whose weights lie beside it."""


def read_ir(path: Path) -> Ir:
    """Both files of a model; EngineError where one is missing or cannot be read."""
    graph, weights = model_files(path)
    try:
        return Ir(graph.read_bytes(), weights.read_bytes())
    except OSError as error:
        raise EngineError(
            "cannot read the model",
            where=error.filename,
            got=error.strerror,
            expected=f"{graph.name} and {weights.name} in one folder",
        ) from error


def read_source(file: ModelFile) -> Source:
    """What to load of a file; EngineError where it is another by now."""
    content = file.content()
    if file.path.suffix != IR:
        return content
    found = read_ir(file.path)
    if found.sha256 != file.sha256:
        raise EngineError("the model changed while it was read", where=file.path)
    return found


def read_model(core: openvino.Core, source: Source) -> openvino.Model:
    """The graph of a model; RuntimeError for what OpenVINO cannot read."""
    if isinstance(source, Ir):
        return core.read_model(source.graph, source.weights)
    return core.read_model(io.BytesIO(source) if isinstance(source, bytes) else str(source))


def why(error: RuntimeError) -> str:
    """OpenVINO's own reason, which stands below the places in its source."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return first_line(next((line for line in lines if "Exception from" not in line), lines[0]))
