"""Layers of a later ultralytics than the installed one, which would run them as something else."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.core.errors import CheckpointError

if TYPE_CHECKING:
    import torch


def require_known_layers(model: torch.nn.Module, path: Path) -> None:
    """Refuse an SPPF with a shortcut, as YOLO26 has, or of another number of poolings, where SPPF
    knows of neither: before 8.4 it leaves them out without a word, and so would the export.

    Raises:
        CheckpointError: there is one; names the layer and the installed version.
    """
    version = import_module("ultralytics").__version__
    for name, layer in model.named_modules():
        if type(layer).__name__ != "SPPF" or "shortcut" in signature(type(layer)).parameters:
            continue
        held = vars(layer)
        if held.get("add", False) is not False or str(held.get("n", 3)) != "3":
            raise CheckpointError(
                "the checkpoint is of a later ultralytics, whose layers compute something else",
                where=path,
                got=f"{name}: an SPPF as ultralytics {version} has none",
                expected="the ultralytics that trained it, or a later one",
                hint="pip install --upgrade the ultralytics that is installed",
            )
