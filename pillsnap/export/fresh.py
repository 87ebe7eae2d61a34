"""Exports to hold a file against: found among those that ship, or made beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pillsnap.config.settings import Config, Exporter
from pillsnap.export import export_onnx
from pillsnap.export.onnxfile import Exported
from pillsnap.export.publish import find_export

# So many of a stage are kept beside those that ship.
_KEPT = 2


def configured_like(config: Config, exporter: Exporter, opset: int, dynamic_axes: bool) -> Config:
    """A configuration whose exports are by that exporter, at that opset, with axes free or not, and
    lie where nobody ships from."""
    export = replace(
        config.export,
        exporter=exporter,
        opset=opset,
        dynamic_axes=dynamic_axes,
        out_dir=config.exp_dir / "cache" / "exports",
    )
    return replace(config, export=export)


def export_like(
    config: Config,
    stage: str,
    exporter: Exporter,
    opset: int,
    dynamic_axes: bool,
    *,
    fresh: bool,
    marker: Path,
) -> Exported:
    """What a fresh export of a stage's checkpoint is by that exporter, at that opset; one of an
    earlier run serves unless `fresh`.

    Args:
        marker: see export_onnx.

    Raises:
        PillsnapError: as export_onnx.
    """
    beside = configured_like(config, exporter, opset, dynamic_axes)
    if not fresh:
        shipped = replace(beside, export=replace(beside.export, out_dir=config.out_dir))
        found = find_export(shipped, stage)
        if found is not None:
            return found
    made = export_onnx(beside, stage, fresh=fresh, marker=marker)
    for old in sorted(beside.out_dir.glob(f"{stage}-*.onnx"), reverse=True)[_KEPT:]:
        if old != made.path:
            old.unlink(missing_ok=True)
    return made
