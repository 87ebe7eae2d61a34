"""Networks that a function of the user's own builds, in place of timm's."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.settings import Classification, Config, Detection
from pillsnap.core.errors import CheckpointError, first_line

if TYPE_CHECKING:
    import torch


def is_built(config: Config, stage: str) -> bool:
    """Whether a stage's network is built by the user's own code. Which files that reads, no key
    holds: nothing that an earlier run knew of it is taken over."""
    return getattr(getattr(config, stage, None), "builder", None) is not None


def build_network(settings: Classification | Detection) -> torch.nn.Module:
    """What the builder of a stage builds, called with num_classes; a CheckpointError says why it
    built no torch.nn.Module."""
    import torch

    module, _, name = str(settings.builder).partition(":")
    # A console script, unlike `python -m`, imports nothing from the folder that it starts in.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        network: Any = getattr(import_module(module), name)(num_classes=settings.num_classes)
    except (Exception, SystemExit) as error:  # it is the user's own code
        raise _refusal(settings, f"{type(error).__name__}: {first_line(error)}") from error
    if not isinstance(network, torch.nn.Module):
        raise _refusal(settings, f"it built a {type(network).__name__}")
    return network


def _refusal(settings: Classification | Detection, got: str) -> CheckpointError:
    return CheckpointError(
        "the builder builds no network",
        where=f"config: {type(settings).__name__.lower()}.builder: {settings.builder}",
        got=got,
        expected="package.module:function, which takes num_classes and returns a torch.nn.Module",
        hint="it must be installed, or lie in the folder where the command starts, under a name "
        "that no other module has",
    )
