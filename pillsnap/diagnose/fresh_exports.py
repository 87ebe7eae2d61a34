"""Fresh exports to hold a candidate against, made once each in a folder that goes away."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pillsnap.config.settings import Config, Exporter
from pillsnap.export import export_onnx
from pillsnap.export.fresh import configured_like
from pillsnap.export.publish import find_export
from pillsnap.export.reading import exporter_of, opset_of

if TYPE_CHECKING:
    import onnx

_OTHER: dict[Exporter, tuple[Exporter, int]] = {
    "torchscript": ("dynamo", 18),
    "dynamo": ("torchscript", 17),
}


class FreshExports:
    """Exports of the configured checkpoints in float32, from models in evaluation mode. A context
    manager: what it made goes with it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._made: dict[tuple[str, Exporter, int], Path] = {}

    def __enter__(self) -> FreshExports:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def like(self, stage: str, candidate: onnx.ModelProto) -> Path:
        """An export by the candidate's exporter at its opset.

        Raises:
            PillsnapError: the checkpoint is missing or cannot be exported so.
        """
        return self._make(stage, exporter_of(candidate), opset_of(candidate))

    def unlike(self, stage: str, candidate: onnx.ModelProto) -> Path:
        """An export by the other exporter; errors as for `like`."""
        return self._make(stage, *_OTHER[exporter_of(candidate)])

    def _make(self, stage: str, exporter: Exporter, opset: int) -> Path:
        key = (stage, exporter, opset)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pillsnap-diagnose-")
        if key not in self._made:
            like = configured_like(self._config, exporter, opset, self._config.export.dynamic_axes)
            # The gate may have made it, to hold the candidate's graph against.
            found = find_export(like, stage)
            if found is None:
                folder = Path(self._folder.name, f"{exporter}-{opset}")
                config = replace(like, export=replace(like.export, out_dir=folder))
                found = export_onnx(config, stage)
            self._made[key] = found.path
        return self._made[key]
