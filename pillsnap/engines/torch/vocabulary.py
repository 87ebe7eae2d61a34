"""The fixed vocabulary of a YOLO-World: embeddings of its class names, which it finds boxes of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pillsnap.core.errors import CheckpointError

# What half precision may take from a length of 1.
_LENGTH = 5e-2

_WORLD = "WorldModel"


def drop_text_encoder(model: Any) -> None:
    """Take the encoder of texts out of a YOLO-World, which boxes of a fixed vocabulary need none
    of; other models stay as they are."""
    if type(model).__name__ == _WORLD:
        vars(model).get("_modules", {}).pop("clip_model", None)


def require_vocabulary(model: Any, path: Path) -> None:
    """Refuse a YOLO-World whose embeddings are not of its classes, or of no text at all, by a
    CheckpointError; other models have none."""
    if type(model).__name__ != _WORLD:
        return
    found, classes = vars(model).get("txt_feats"), model.model[-1].nc
    if _are_embeddings(found, classes):
        return
    shape = list(found.shape) if hasattr(found, "shape") else type(found).__name__
    raise CheckpointError(
        "the YOLO-World has no fixed vocabulary: without it the same image has other boxes",
        where=path,
        got=f"{type(model.model[-1]).__name__} of {classes} classes, text embeddings {shape}",
        expected="for every class the embedding of a text, of length 1, as set_classes leaves them",
        hint="model.set_classes([...]), then model.save(...), where CLIP is installed",
    )


def _are_embeddings(found: object, classes: object) -> bool:
    """Whether they are [1,classes,size] of length 1 each: those of a fresh model are noise."""
    import torch

    if not isinstance(found, torch.Tensor) or found.ndim != 3 or not found.is_floating_point():
        return False
    if tuple(found.shape[:2]) != (1, classes) or not classes:
        return False
    return bool(((found.float().norm(dim=-1) - 1).abs() < _LENGTH).all())
