"""A classifier's global pooling: it has no tensor, so that weights fit whichever it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.settings import Classification
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.backbones import create_backbone
from pillsnap.engines.torch.trainer import Facts

if TYPE_CHECKING:
    import torch


def settle_pooling(
    settings: Classification, said: Facts, path: Path
) -> tuple[Classification, tuple[str, ...]]:
    """Settings with the pooling that the network was trained with, and what is to be said of it.

    Args:
        said: classifier_facts of the checkpoint; its pooling is taken where config has none.

    Raises:
        CheckpointError: config and checkpoint name different ones.
    """
    told = said.pooling
    if settings.global_pool is None and told:
        note = f"global pooling {told}, as the checkpoint says (args.gp)"
        return replace(settings, global_pool=told), (note,)
    if settings.global_pool is None or told is None:
        return settings, ()
    trained = told or _pooling_of(create_backbone(replace(settings, global_pool=None)))
    if trained in (settings.global_pool, ""):
        return settings, ()
    raise CheckpointError(
        "the checkpoint was trained with another global pooling than config says",
        where=path,
        got=f"{trained} (args.gp: {told or 'null'})",
        expected=f"{settings.global_pool} (classification.global_pool)",
        hint=f"set classification.global_pool: {trained}, or null, which takes what it says",
    )


def _pooling_of(module: torch.nn.Module) -> str:
    """The pooling that a timm network was built with; "" where it does not tell."""
    for part in (module, getattr(module, "head", None)):
        held: Any = getattr(part, "global_pool", None)
        name = getattr(held, "pool_type", held)
        if isinstance(name, str) and name:
            return name.removeprefix("fast") or "avg"
    return ""
