"""What a model's file is: our metadata where it has some, its graph where it has none."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.core.errors import EngineError
from pillsnap.core.hashes import sha256_file
from pillsnap.core.modelfiles import IR, model_files
from pillsnap.export.reading import inputs_of, opset_of, read_bytes, read_hashed
from pillsnap.export.runtimes import least_runtime
from pillsnap.export.safety import external_files
from pillsnap.export.stages import PREFIX, Signature, require_stage, stage_in
from pillsnap.export.suppression import Suppression, find_suppression

if TYPE_CHECKING:
    import onnx

__all__ = ["PREFIX", "Exported", "describe_onnx", "exported", "stage_of"]


@dataclass(frozen=True)
class Exported:
    """A model's file, .onnx or of OpenVINO, and where it came from.

    A file that pillsnap did not export has "" for what only metadata could tell.

    Attributes:
        path: the file itself, not a link to it.
        opset: of the file's standard operators; 0 of a file without, as of OpenVINO.
        dynamic_axes: whether the batch size is free.
        params_million: parameters of the trained model; of a foreign file, its weights.
        version_tag: <UTC>-<sha7|nogit>.
        exported_at_utc: ISO 8601 with Z.
        git_sha: 7 hex digits or nogit.
        checkpoint_sha256: of the .pt it was made from.
        checkpoint: that .pt; None for a file that was only described.
        metadata: all of the file's metadata, keys as they stand there.
        reused: whether an earlier run had exported it.
        weights: SHA-256 of the files beside it that hold its weights, by name.
        ir_version: of the file's format; 0 where that is not known.
        float32: of a file of lower precision, the one that it was made from; None: not known.
        suppression: the NMS inside it, if there is one.
    """

    path: Path
    sha256: str
    opset: int
    dynamic_axes: bool
    params_million: float
    version_tag: str
    exported_at_utc: str
    git_sha: str
    checkpoint_sha256: str
    checkpoint: Path | None
    metadata: dict[str, str]
    reused: bool
    weights: dict[str, str] = field(default_factory=dict)
    ir_version: int = 0
    float32: Path | None = None
    suppression: Suppression | None = None

    def content(self) -> bytes | Path:
        """What a runtime is to load: the bytes that were described, so that what runs is what was
        hashed; the path of a model whose weights lie beside it. EngineError where the file is
        another by now, or gone."""
        if self.weights or self.path.suffix == IR:
            return self.path
        data = read_bytes(self.path)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise EngineError("the model changed while it was read", where=self.path)
        return data

    def size_bytes(self) -> int:
        """Size of the model in bytes, with the files beside it that hold weights."""
        beside = (self.path.parent / name for name in self.weights)
        return sum(file.stat().st_size for file in {*model_files(self.path), *beside})

    def summary(self) -> dict[str, Any]:
        """What a report says of the file, as plain builtins."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "opset": self.opset or None,
            "ir_version": self.ir_version or None,
            "min_onnxruntime": least_runtime(self.opset, self.ir_version) if self.opset else None,
            "dynamic_axes": self.dynamic_axes,
            "params_million": self.params_million,
            "version_tag": self.version_tag,
            "exported_at_utc": self.exported_at_utc,
            "git_sha": self.git_sha,
            "checkpoint_sha256": self.checkpoint_sha256,
            "reused": self.reused,
            "weights_sha256": self.weights,
        }


def describe_onnx(path: Path, stage: str) -> Exported:
    """Read what an .onnx file, or what a link leads to, is, whoever wrote it; EngineError where it
    is missing, damaged, or not a model of that stage."""
    model, sha256 = read_hashed(path)
    require_stage(_signature(model), stage, path)
    return exported(path, sha256, model)


def exported(
    path: Path,
    sha256: str,
    model: onnx.ModelProto,
    checkpoint: Path | None = None,
    *,
    reused: bool = False,
) -> Exported:
    """The facts about a file whose content is `model`."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Exported(
        path=path.resolve(),
        sha256=sha256,
        opset=opset_of(model),
        dynamic_axes=_shape(inputs_of(model)[0])[:1] == (None,),
        params_million=params_million(metadata) or _weights_million(model),
        **origin_told(metadata),
        checkpoint=checkpoint,
        metadata=metadata,
        reused=reused,
        weights={
            name: sha256_file(path.resolve().parent / name)
            for name in sorted(external_files(model))
        },
        ir_version=model.ir_version,
        suppression=find_suppression(model),
    )


def stage_of(model: onnx.ModelProto) -> str:
    """detection, classification or neither, see stage_in."""
    return stage_in(_signature(model))


def _signature(model: onnx.ModelProto) -> Signature:
    return Signature(
        _shape(inputs_of(model)[0]),
        {output.name: _shape(output) for output in model.graph.output},
        {entry.key: entry.value for entry in model.metadata_props},
    )


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)


def origin_told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Exported's fields of what pillsnap has written into a file; "" of what it has not."""
    names = ("version_tag", "exported_at_utc", "git_sha", "checkpoint_sha256")
    return {name: metadata.get(PREFIX + name, "") for name in names}


def params_million(metadata: Mapping[str, str]) -> float | None:
    """What metadata say; None where they say nothing, or no such number."""
    try:
        found = float(metadata.get(PREFIX + "params_million", ""))
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def _weights_million(model: onnx.ModelProto) -> float:
    """Elements of all weights, in millions."""
    count = math.fsum(
        math.prod(float(size) for size in tensor.dims) for tensor in model.graph.initializer
    )
    return round(count / 1e6, 6) if math.isfinite(count) else 0.0
