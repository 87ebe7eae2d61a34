"""Fresh exports to hold a candidate against, made once each in a folder that goes away."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
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


class FreshExports(ExitStack):
    """Exports of the configured checkpoints in float32, from models in evaluation mode. A context
    manager: what it made goes with it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config
        self._made: dict[tuple[str, Exporter, int], Path] = {}

    @cached_property
    def _folder(self) -> Path:
        return Path(self.enter_context(tempfile.TemporaryDirectory(prefix="pillsnap-diagnose-")))

    def like(self, stage: str, candidate: onnx.ModelProto) -> Path:
        """An export by the candidate's exporter at its opset; PillsnapError where the checkpoint is
        missing or cannot be exported so."""
        return self._make(stage, exporter_of(candidate), opset_of(candidate))

    def unlike(self, stage: str, candidate: onnx.ModelProto) -> Path:
        """An export by the other exporter; errors as for `like`."""
        return self._make(stage, *_OTHER[exporter_of(candidate)])

    def _make(self, stage: str, exporter: Exporter, opset: int) -> Path:
        key = (stage, exporter, opset)
        if key not in self._made:
            like = configured_like(self._config, exporter, opset, self._config.export.dynamic_axes)
            # The gate may have made it, to hold the candidate's graph against.
            found = find_export(like, stage)
            if found is None:
                folder = self._folder / f"{exporter}-{opset}"
                found = export_onnx(
                    replace(like, export=replace(like.export, out_dir=folder)), stage
                )
            self._made[key] = found.path
        return self._made[key]
