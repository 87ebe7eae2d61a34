"""Classifier checkpoints: a timm backbone, or what a builder builds, and the state dict that was
trained for it; of ultralytics its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
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
    settle_pooling,
)
from pillsnap.engines.torch.builders import build_network
from pillsnap.engines.torch.fit import find_misfit
from pillsnap.engines.torch.safe_load import (
    LoadedModel,
    Origin,
    checkpoint_stage,
    holds_yolo_classifier,
    read_content,
    require_finite,
)
from pillsnap.engines.torch.statedict import KEYS, Wanted, Weights, find_weights
from pillsnap.engines.torch.torchfile.objects import StandIn
from pillsnap.engines.torch.trainer import classifier_facts, recorded_top1
from pillsnap.engines.torch.yolo_classifier import load_yolo_classifier

if TYPE_CHECKING:
    import torch

SAVE_WEIGHTS = "if you trust its origin, load it there and save model.state_dict() instead"


def load_classifier(settings: Classification, path: Path, size: int | None = None) -> LoadedModel:
    """Build the network and fill it strictly from a checkpoint.

    Args:
        settings: names the backbone, the class count, the pooling, the entry of the checkpoint and
            the memory format.
        path: a .pt or .safetensors holding a state dict: bare, or under one of the keys that
            trainers use.
        size: side of the input in pixels: what a network whose weights are of one size (a ViT) is
            built for if the weights are of it; None, or else, is the backbone's own.

    Raises:
        MissingCheckpoint: there is no such file.
        CheckpointError: unknown backbone, unsafe or damaged file, weights that do not fit, or a
            checkpoint that says it is of another architecture or pooling.
    """
    import torch

    refuse_detector(path)
    if settings.builder is None and holds_yolo_classifier(path):
        return load_yolo_classifier(settings, path)
    if settings.builder is None:
        require_backbone(settings.backbone)
    content = read_content(path, {}, SAVE_WEIGHTS)
    said = classifier_facts(content)
    notes: tuple[str, ...] = ()
    if settings.builder is None:
        require_architecture(settings, content, path)
        settings, notes = settle_pooling(settings, said, path)
    module, weights = _network_and_weights(settings, content, size, path)
    if weights is None:
        raise CheckpointError(
            "the checkpoint holds no state dict",
            where=path,
            got=_outline(content),
            expected=f"tensors by name, bare or under one of {', '.join(KEYS)}",
            hint=_whole_model(content),
        )
    require_fit(settings, module, weights.state, path)
    module.load_state_dict(weights.state, strict=True)
    module = module.float().eval()
    require_finite(module, path)
    if settings.channels_last:
        module.to(memory_format=torch.channels_last)
    origin = Origin(weights.entry, weights.entries, said, (*notes, *weights.notes))
    return LoadedModel(module, recorded=recorded_top1(content), origin=origin)


def refuse_detector(path: Path) -> None:
    """Refuse an Ultralytics detector by a CheckpointError; other errors are checkpoint_stage's."""
    if checkpoint_stage(path) == "detection":
        raise CheckpointError(
            "this is an Ultralytics detector, not a classifier",
            where=path,
            expected="the state dict of a timm model",
            hint="was one checkpoint copied over the other?",
        )


def _network_and_weights(
    settings: Classification, content: object, size: int | None, path: Path
) -> tuple[torch.nn.Module, Weights | None]:
    """The network without weights, at `size` where they are of that, and what is found for it."""
    if settings.builder is not None:
        module = build_network(settings)
        return module, weights_of(module, settings, content, path)
    if size is not None and is_resized(settings.backbone, size):
        with suppress(CheckpointError):  # not to be built so; its own size then says what is wrong
            module = create_backbone(settings, size)
            weights = weights_of(module, settings, content, path)
            if weights is not None and not find_misfit(module, weights.state):
                return module, weights
    module = create_backbone(settings)
    return module, weights_of(module, settings, content, path)


def weights_of(
    module: torch.nn.Module, settings: Classification, content: object, path: Path
) -> Weights | None:
    wanted = Wanted(
        module.state_dict(),
        settings.checkpoint_entry,
        "classification.checkpoint_entry",
        partial(_under_current_names, module),
    )
    return find_weights(content, wanted, path)


def _under_current_names(
    module: torch.nn.Module, state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor] | None:
    """A state dict by this timm's names, made by the family's own checkpoint_filter_fn, as timm
    itself takes weights from a file; None where that does not make it fit.

    Only what is renamed, reshaped, cut or left out is taken: the same functions resample weights of
    another image size and fill in what is missing, which would be another network.

    Args:
        state: without its trainer's prefix, but for DataParallel's.
    """
    convert = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return None
    from timm.models import clean_state_dict

    try:
        found = convert(clean_state_dict(dict(state)), module)
        own = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
        kept = all(tensor.untyped_storage().data_ptr() in own for tensor in found.values())
    except Exception:  # of names that it does not know either
        return None
    return found if kept and not find_misfit(module, found) else None


def require_fit(
    settings: Classification,
    module: torch.nn.Module,
    state: dict[str, torch.Tensor],
    path: Path,
) -> None:
    """Compare names and shapes; one CheckpointError tells of all differences."""
    misfit = find_misfit(module, state)
    if not misfit:
        return
    import timm

    what = "the checkpoint does not fit the backbone"
    hint = misfit.hint() or (
        "set classification.backbone to the one that was trained; or is it of another version of "
        f"timm, or of another library, whose names are not those of timm {timm.__version__}?"
    )
    if misfit.same_names and _pretrained_config(module).get("fixed_input_size"):
        hint = (
            "this backbone's weights are of one image size: set export.input_shape.classification "
            "to the training's, or classification.backbone to the one that was trained"
        )
    channels = layer_side(module, state, "first_conv", 1)
    if channels is not None and channels != 3:
        what = f"the checkpoint is of {channels}-channel images, and every engine is fed RGB"
        hint = "train on RGB images (in_chans 3; a grey photo has three equal channels)"
    classes = layer_side(module, state, "classifier", 0)
    if classes is not None and classes != settings.num_classes and misfit.same_names:
        what = f"head of {classes} classes, config says {settings.num_classes}"
        hint = f"set classification.num_classes: {classes}, or use the right checkpoint"
    raise CheckpointError(
        what,
        where=path,
        got=str(misfit),
        expected=f"{settings.network} with {settings.num_classes} classes",
        hint=hint,
    )


def layer_side(
    module: torch.nn.Module, state: Mapping[str, torch.Tensor], role: str, axis: int
) -> int | None:
    """A side of the checkpoint's weight of the layer that timm says has a role, where it does."""
    layer = _pretrained_config(module).get(role)
    name = f"{layer[0] if isinstance(layer, (tuple, list)) else layer}.weight"
    if name not in module.state_dict() or name not in state or state[name].ndim <= axis:
        return None
    return int(state[name].shape[axis])


def _pretrained_config(module: torch.nn.Module) -> Mapping[str, Any]:
    found: Any = getattr(module, "pretrained_cfg", None)
    return found or {}


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
        return "a YOLO classifier is its own network: leave classification.builder out"
    return "save model.state_dict() in place of the model" if models else None
