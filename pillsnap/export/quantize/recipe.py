"""What decides what a file of lower precision holds, and the metadata that says so."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pillsnap.config.settings import CalibrationMethod, Int8Method
from pillsnap.core.errors import ConfigError, EngineError
from pillsnap.core.hashes import canonical_json, sha256_file, sha256_json
from pillsnap.core.modelfiles import IR
from pillsnap.engines import EXPORTED, Entry, package_versions
from pillsnap.engines.onnxruntime import precision, sessions
from pillsnap.export.onnxfile import PREFIX, Exported

METHODS: tuple[str, ...] = get_args(Int8Method)

NNCF = "nncf"
"""The method that makes a graph of OpenVINO's own."""


def describe_quantized(exported: Exported) -> dict[str, Any] | None:
    """What a report says of a file of lower precision beside what it says of every file, as plain
    builtins (report.models.cells.Quantized); None when pillsnap did not convert it, EngineError
    when its metadata say that it did, and not what pillsnap writes."""
    if PREFIX + "precision" not in exported.metadata:
        return None
    found = {key.removeprefix(PREFIX): value for key, value in exported.metadata.items()}
    try:
        float_nodes = list(json.loads(found["float_nodes"]))
        return {
            "precision": found["precision"],
            "method": found["method"],
            "size_bytes": exported.size_bytes(),
            "nodes_low": int(found["nodes_low"]),
            "nodes_float": len(float_nodes),
            "float_nodes": float_nodes,
            "freed": list(json.loads(found["freed"])),
            "source_sha256": found["source_sha256"],
            "calibration_sha256": found["calibration_sha256"],
            "calibration_images": int(found["calibration_images"]),
            "calibration_method": _calibrated_by(found),
        }
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise EngineError(
            "the model's metadata on its precision are damaged",
            where=exported.path,
            got=repr(error),
        ) from error


def _calibrated_by(found: Mapping[str, str]) -> str | None:
    """How ranges were found; None where none were, or NNCF has its own way."""
    if found["calibration_images"] == "0" or found["method"] == NNCF:
        return None
    return found.get("calibration_method", "minmax")  # files of earlier versions do not say


@dataclass(frozen=True)
class Recipe:
    """What goes into a conversion, known before anything heavy is loaded.

    Attributes:
        source: the float32 file.
        method: of int8; "" for fp16.
        calibration_sha256: of the list of images to calibrate on; "" without.
        exclude: names of nodes to leave float; None for a detector's head, of int8.
        criterion: what method auto must hold, in words or as a hash; "" for the others.
        calibration_method: how ranges are found on those images.
    """

    source: Exported
    precision: str
    method: str
    calibration_sha256: str
    exclude: Collection[str] | None
    criterion: str
    calibration_method: CalibrationMethod = "minmax"

    def stem(self) -> str:
        """Name of the file without suffix: the source's, then what was made of it."""
        parts = (self.source.path.stem, self.precision, self.method)
        return "-".join(part for part in parts if part)

    def facts(self) -> dict[str, str]:
        """Metadata by key, without what only the conversion can tell."""
        return {
            "precision": self.precision,
            "method": self.method,
            "source_sha256": self.source.sha256,
            "calibration_sha256": self.calibration_sha256,
            "calibration_method": self.calibration_method,
            "criterion": self.criterion,
            "quantize_versions": canonical_json(package_versions("numpy", "onnx", *self._by())),
        }

    @property
    def suffix(self) -> str:
        """Of the file."""
        return IR if self.method == NNCF else EXPORTED

    def _by(self) -> tuple[str, ...]:
        """Packages that convert."""
        return ("nncf", "openvino") if self.method == NNCF else ("onnxruntime",)

    def key(self) -> str:
        """SHA-256 of all that can change the file."""
        sources = sorted(Path(__file__).parent.glob("*.py"))
        sources += [Path(str(module.__file__)) for module in (precision, sessions)]
        content = {
            "facts": self.facts(),
            "exclude": None if self.exclude is None else sorted(self.exclude),
            # An edited converter must not reuse old files.
            "sources": [sha256_file(file) for file in sources],
        }
        return sha256_json(content)


def require_opened(method: str, engine: Entry) -> None:
    """Refuse, by a ConfigError, a method of INT8 whose files an engine does not open."""
    if method == NNCF and IR not in engine.suffixes:
        raise ConfigError(
            f"method nncf makes graphs of OpenVINO, which engine {engine.name} does not open",
            where="--int8-method, or export.quantize.int8_method",
            got=method,
            hint="use --engine openvino, or another method",
        )
