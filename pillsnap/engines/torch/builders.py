"""Networks that a function of the user's own builds, in place of timm's."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.settings import Classification
from pillsnap.core.errors import CheckpointError, first_line
from pillsnap.core.hashes import sha256_file

if TYPE_CHECKING:
    import torch


def build_network(settings: Classification) -> torch.nn.Module:
    """What classification.builder builds, called with num_classes; a CheckpointError says why it
    built no torch.nn.Module."""
    import torch

    module, _, name = str(settings.builder).partition(":")
    _see_working_directory()
    try:
        network: Any = getattr(import_module(module), name)(num_classes=settings.num_classes)
    except Exception as error:  # it is the user's own code
        raise _refusal(settings, f"{type(error).__name__}: {first_line(error)}") from error
    if not isinstance(network, torch.nn.Module):
        raise _refusal(settings, f"it built a {type(network).__name__}")
    return network


def hash_builder(settings: Classification) -> list[str]:
    """SHA-256 of every Python file of the package, or of the one module, that a builder stands in,
    which is not imported for it; () where none is named or found."""
    if settings.builder is None:
        return []
    _see_working_directory()
    spec = find_spec(settings.builder.partition(":")[0].partition(".")[0])
    if spec is None:
        return []
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    return [sha256_file(file) for file in sorted(files) or [Path(str(spec.origin))]]


def _see_working_directory() -> None:
    """A console script, unlike `python -m`, imports nothing from the folder that it starts in."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _refusal(settings: Classification, got: str) -> CheckpointError:
    return CheckpointError(
        "the builder builds no network",
        where=f"config: classification.builder: {settings.builder}",
        got=got,
        expected="package.module:function, which takes num_classes and returns a torch.nn.Module",
        hint="it must be installed, or lie in the folder where the command starts",
    )
