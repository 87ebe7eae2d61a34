"""Classifier checkpoints: a timm backbone and the state dict that was trained for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.settings import Classification
from pillsnap.core.errors import CheckpointError
from pillsnap.core.printable import printable
from pillsnap.engines.torch.backbones import (
    create_backbone,
    is_resized,
    require_architecture,
    require_backbone,
)
from pillsnap.engines.torch.recorded import recorded_top1
from pillsnap.engines.torch.safe_load import LoadedModel, checkpoint_stage, require_finite
from pillsnap.engines.torch.statedict import COUNTER, KEYS, find_weights
from pillsnap.engines.torch.torchfile import StandIn, read_checkpoint

if TYPE_CHECKING:
    import torch

_SHOWN = 5

_HINT = "if you trust its origin, load it there and save model.state_dict() instead"


def load_classifier(settings: Classification, path: Path, size: int | None = None) -> LoadedModel:
    """Build the backbone and fill it strictly from a checkpoint.

    Args:
        settings: names the backbone, the class count and the memory format.
        path: a .pt holding a state dict: bare, or under one of the keys that trainers use.
        size: side of the input in pixels: what a network whose weights are of one size (a ViT) is
            built for if the weights are of it; None, or else, is the backbone's own.

    Raises:
        MissingCheckpoint: there is no such file.
        CheckpointError: unknown backbone, unsafe or damaged file, weights that do not fit, or a
            checkpoint that says it is of another architecture.
    """
    import torch

    if checkpoint_stage(path) == "detection":
        raise CheckpointError(
            "this is an Ultralytics detector, not a classifier",
            where=path,
            expected=f"the state dict of a timm {settings.backbone}",
            hint="was one checkpoint copied over the other?",
        )
    require_backbone(settings.backbone)
    content = read_checkpoint(path, {}, _HINT)
    require_architecture(settings, content, path)
    module, state = _network_and_weights(settings, content, size, path)
    if state is None:
        raise CheckpointError(
            "the checkpoint holds no state dict",
            where=path,
            got=_outline(content),
            expected=f"tensors by name, bare or under one of {', '.join(KEYS)}",
            hint=_whole_model(content),
        )
    _require_fit(settings, module, state, path)
    module.load_state_dict(state, strict=True)
    module = module.float().eval()
    require_finite(module, path)
    if settings.channels_last:
        module.to(memory_format=torch.channels_last)
    return LoadedModel(module, recorded=recorded_top1(content))


def _network_and_weights(
    settings: Classification, content: object, size: int | None, path: Path
) -> tuple[torch.nn.Module, dict[str, torch.Tensor] | None]:
    """The network without weights, at `size` where they are of that, and what is found for it."""
    if size is not None and is_resized(settings.backbone, size):
        with suppress(CheckpointError):  # not to be built so; its own size then says what is wrong
            module = create_backbone(settings, size)
            state = find_weights(content, module.state_dict(), path)
            if state is not None and not any(_differences(module, state)):
                return module, state
    module = create_backbone(settings)
    return module, find_weights(content, module.state_dict(), path)


def _differences(
    module: torch.nn.Module, state: Mapping[str, torch.Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, unexpected, and of another shape."""
    wanted = module.state_dict()
    return (
        [key for key in wanted if key not in state and not key.endswith(COUNTER)],
        [key for key in state if key not in wanted],
        [
            f"{key} {_shape(state[key])} instead of {_shape(wanted[key])}"
            for key in wanted
            if key in state and state[key].shape != wanted[key].shape
        ],
    )


def _require_fit(
    settings: Classification,
    module: torch.nn.Module,
    state: dict[str, torch.Tensor],
    path: Path,
) -> None:
    """Compare names and shapes; one error tells of all differences.

    Raises:
        CheckpointError: missing, unexpected or mismatched tensors.
    """
    missing, unexpected, mismatched = _differences(module, state)
    if not (missing or unexpected or mismatched):
        return
    classes = _head_classes(module, state)
    facts = [
        _listed("missing", missing),
        _listed("unexpected", unexpected),
        _listed("mismatched", mismatched),
    ]
    what = "the checkpoint does not fit the backbone"
    hint = "set classification.backbone to the one that was trained"
    if not (missing or unexpected) and _one_size(module):
        hint = (
            "this backbone's weights are of one image size: set export.input_shape.classification "
            "to the training's, or classification.backbone to the one that was trained"
        )
    if classes is not None and classes != settings.num_classes and not (missing or unexpected):
        what = f"head of {classes} classes, config says {settings.num_classes}"
        hint = f"set classification.num_classes: {classes}, or use the right checkpoint"
    raise CheckpointError(
        what,
        where=path,
        got="; ".join(fact for fact in facts if fact),
        expected=f"{settings.backbone} with {settings.num_classes} classes",
        hint=hint,
    )


def _head_classes(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> int | None:
    """Rows of the checkpoint's classifier head, where timm names that layer."""
    head = _pretrained_config(module).get("classifier")
    name = f"{head[0] if isinstance(head, (tuple, list)) else head}.weight"
    if name not in module.state_dict() or name not in state or not state[name].ndim:
        return None
    return int(state[name].shape[0])


def _one_size(module: torch.nn.Module) -> bool:
    return bool(_pretrained_config(module).get("fixed_input_size"))


def _pretrained_config(module: torch.nn.Module) -> Mapping[str, Any]:
    found: Any = getattr(module, "pretrained_cfg", None)
    return found or {}


def _shape(tensor: torch.Tensor) -> str:
    return str(list(tensor.shape))


def _listed(title: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    return f"{len(names)} {title}: {', '.join(names[:_SHOWN])}{more}"


def _outline(content: object) -> str:
    if isinstance(content, Mapping):
        keys = ", ".join(printable(key, 40) for key in list(content)[:8])
        return f"a dict with keys {keys}" if keys else "an empty dict"
    if isinstance(content, StandIn):
        return printable(f"a pickled {content.name}", 100)
    return f"a {type(content).__name__}"


def _whole_model(content: object) -> str | None:
    """What to do with a file that pickles a model and not its weights."""
    entries = content.values() if isinstance(content, Mapping) else (content,)
    models = [entry for entry in entries if isinstance(entry, StandIn) and not entry.called]
    if any(model.name.startswith("ultralytics.") for model in models):
        return "a YOLO classifier cannot be used here: train a timm backbone"
    return "save model.state_dict() in place of the model" if models else None
