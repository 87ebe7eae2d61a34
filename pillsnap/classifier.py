"""Classifier checkpoints: a timm backbone and the state dict that was trained for it."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config import Classification
from pillsnap.errors import CheckpointError
from pillsnap.printable import printable
from pillsnap.torchfile import StandIn, read_checkpoint
from pillsnap.weights import LoadedModel, checkpoint_stage, require_finite

if TYPE_CHECKING:
    import torch

# Averaged weights first, as timm and ultralytics do: they are what is evaluated and shipped.
_STATE_KEYS = (
    "ema",
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model",
)
_SHOWN = 5


def load_classifier(settings: Classification, path: Path) -> LoadedModel:
    """Build the backbone and fill it strictly from a checkpoint.

    Args:
        settings: names the backbone, the class count and the memory format.
        path: a .pt holding a state dict: bare, or under one of the keys that trainers use.

    Raises:
        MissingCheckpoint: there is no such file.
        CheckpointError: unknown backbone, unsafe or damaged file, or weights that do not fit.
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
    state = _read_state(path)
    module = _create(settings)
    _require_fit(settings, module, state, path)
    module.load_state_dict(state, strict=True)
    module = module.float().eval()
    require_finite(module, path)
    if settings.channels_last:
        module.to(memory_format=torch.channels_last)
    return LoadedModel(module)


def require_backbone(name: str) -> None:
    """Check that timm knows a backbone.

    Raises:
        CheckpointError: it does not; close matches are listed.
    """
    import timm

    if timm.is_model(name) and not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
        return
    base = name.split(".", 1)[0]
    close = difflib.get_close_matches(base, timm.list_models(), n=5, cutoff=0.6)
    raise CheckpointError(
        "timm has no such backbone",
        where="config: classification.backbone",
        got=name,
        expected=", ".join(close) or "a name from timm.list_models()",
    )


def _create(settings: Classification) -> torch.nn.Module:
    import timm

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # renamed models still work
            module: torch.nn.Module = timm.create_model(
                settings.backbone, pretrained=False, num_classes=settings.num_classes
            )
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            "timm cannot build this backbone as a classifier",
            where="config: classification.backbone",
            got=f"{settings.backbone}: {error}",
        ) from error
    return module


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    content = read_checkpoint(
        path, {}, "if you trust its origin, load it there and save model.state_dict() instead"
    )
    state = _find_state(content)
    if state is None:
        raise CheckpointError(
            "the checkpoint holds no state dict",
            where=path,
            got=_outline(content),
            expected=f"tensors by name, bare or under one of {', '.join(_STATE_KEYS)}",
            hint=_whole_model(content),
        )
    return _strip_prefixes(state)


def _find_state(content: object) -> dict[str, torch.Tensor] | None:
    """The state dict in a checkpoint, looked for at most three levels deep."""
    import torch

    for _ in range(3):
        if not isinstance(content, Mapping):
            return None
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            return {str(key): value for key, value in content.items()}
        held = (content.get(key) for key in _STATE_KEYS)
        content = next((value for value in held if isinstance(value, Mapping) and value), None)
    return None


def _strip_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take off what DataParallel, torch.compile and AveragedModel put before the names."""
    wrapped = any(key.startswith("module.") for key in state)
    plain = {}
    for key, value in state.items():
        if wrapped and key == "n_averaged":
            continue
        name = key.replace("_orig_mod.", "")
        while name.startswith("module."):
            name = name.removeprefix("module.")
        plain[name] = value
    return plain


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
    wanted = module.state_dict()
    # BatchNorm fills this counter in by itself when an old checkpoint lacks it.
    missing = [
        key for key in wanted if key not in state and not key.endswith(".num_batches_tracked")
    ]
    unexpected = [key for key in state if key not in wanted]
    mismatched = [
        f"{key} {_shape(state[key])} instead of {_shape(wanted[key])}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if not (missing or unexpected or mismatched):
        return
    classes = _head_classes(module, wanted, state)
    facts = [
        _listed("missing", missing),
        _listed("unexpected", unexpected),
        _listed("mismatched", mismatched),
    ]
    what, hint = (
        "the checkpoint does not fit the backbone",
        ("set classification.backbone to the one that was trained"),
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


def _head_classes(
    module: torch.nn.Module, wanted: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]
) -> int | None:
    """Rows of the checkpoint's classifier head, where timm names that layer."""
    config: Any = getattr(module, "pretrained_cfg", None) or {}
    head = config.get("classifier")
    name = f"{head[0] if isinstance(head, (tuple, list)) else head}.weight"
    if name not in wanted or name not in state or not state[name].ndim:
        return None
    return int(state[name].shape[0])


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
