"""Backbones by name, timm's and ultralytics': which there are, how they are fed, and networks."""

from __future__ import annotations

import difflib
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.settings import Classification
from pillsnap.core.errors import CheckpointError, first_line
from pillsnap.engines.torch.agreement import another_architecture
from pillsnap.engines.torch.torchfile.objects import entries_of
from pillsnap.engines.torch.trainer import Facts, training_arguments

if TYPE_CHECKING:
    import torch

_WHERE = "config: classification.backbone"

# What ultralytics' trainer feeds its classifiers, but for the size.
_OF_ULTRALYTICS = {
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "crop_mode": "center",
    "input_size": (3, 224, 224),
}


def is_yolo(name: str) -> bool:
    """Whether a backbone is a classifier of ultralytics, as yolo11n-cls, and none of timm."""
    return re.fullmatch(r"yolo(v?\d+)[a-z]?-cls(-.+)?", name.lower()) is not None


def require_backbone(name: str) -> None:
    """Check that timm knows a backbone, and its pretrained tag where the name has one: else a
    CheckpointError lists close matches, or says that timm cannot be imported."""
    try:
        import timm
    except ImportError as error:
        raise CheckpointError(
            "timm is asked for the backbone's preprocessing or layers and cannot be imported",
            where=f"{_WHERE}: {name}",
            got=first_line(error),
            hint="pip install 'pillsnap[torch]'; a golden bundle needs none where "
            "classification.mean, std, interpolation, crop_pct and crop_mode are set",
        ) from error

    base = name.split(".", 1)[0]
    if not timm.is_model(name) or name.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
        close = difflib.get_close_matches(base, timm.list_models(), n=5, cutoff=0.6)
        raise CheckpointError(
            "timm has no such backbone",
            where=_WHERE,
            got=name,
            expected=", ".join(close) or "a name from timm.list_models()",
        )
    try:
        _pretrained_config(name)
    except RuntimeError:
        tags = timm.list_models(f"{base}.*", include_tags=True)
        close = difflib.get_close_matches(name, tags, n=5, cutoff=0.6)
        raise CheckpointError(
            "timm has the backbone, but not this pretrained tag of it",
            where=_WHERE,
            got=f"{name}, timm {timm.__version__}",
            expected=", ".join([base, *close]),
            hint=f"set classification.backbone: {base}, or install the timm that training had",
        ) from None


def data_config(name: str) -> dict[str, Any]:
    """What the evaluation of a backbone takes, timm's or ultralytics': mean, std, interpolation,
    crop_pct and so on. Errors are require_backbone's."""
    if is_yolo(name):
        return dict(_OF_ULTRALYTICS)
    require_backbone(name)
    from timm.data import resolve_data_config

    found: dict[str, Any] = resolve_data_config({}, pretrained_cfg=_pretrained_config(name))
    return found


def is_resized(name: str, size: int) -> bool:
    """Whether a backbone is built for one image size (a ViT, say), and not for this one."""
    own = _pretrained_config(name)
    return bool(own.get("fixed_input_size")) and size != own["input_size"][-1]


def create_backbone(settings: Classification, size: int | None = None) -> torch.nn.Module:
    """The network without weights.

    Args:
        size: side of the input in pixels, of a backbone that is_resized; None is its own.

    Raises:
        CheckpointError: it is no classifier, or cannot be of that size.
    """
    import timm

    options: dict[str, Any] = {} if size is None else {"img_size": size}
    if settings.global_pool is not None:
        options["global_pool"] = settings.global_pool
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # renamed models still work
            module: torch.nn.Module = timm.create_model(
                settings.backbone, pretrained=False, num_classes=settings.num_classes, **options
            )
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        at = "" if size is None else f" at {size} x {size}"
        pool = f", global pooling {settings.global_pool}" if settings.global_pool else ""
        raise CheckpointError(
            f"timm cannot build this backbone as a classifier{at}",
            where=_WHERE,
            got=f"{settings.backbone}{pool}: {error}",
        ) from error
    return module


def trained_architecture(content: object) -> str | None:
    """The architecture that timm's trainer wrote into a checkpoint; None where it says none. A name
    that timm does not know is some other trainer's and says nothing."""
    import timm

    names = (entries_of(content).get("arch"), training_arguments(content).get("model"))
    found = next((name for name in names if isinstance(name, str)), "")
    return found if found and timm.is_model(found) else None


def require_architecture(settings: Classification, content: object, path: Path) -> None:
    """Refuse, by a CheckpointError, another architecture than the configured one, as timm's trainer
    wrote it into a checkpoint.

    Names and shapes do not tell all: tf_efficientnetv2_s has those of efficientnetv2_s, and pads
    otherwise.
    """
    found = trained_architecture(content)
    if found is None:
        return
    if _current(found) != _current(settings.backbone):
        raise another_architecture(found, "classification.backbone", settings.backbone, path)


def settle_pooling(
    settings: Classification, said: Facts, path: Path
) -> tuple[Classification, tuple[str, ...]]:
    """Settings with the global pooling that the network was trained with, and what is to be said of
    it: a pooling has no tensor, so that weights fit whichever it is.

    The checkpoint's, of classifier_facts, is taken where config has none; where both name different
    ones, that is a CheckpointError.
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


def _current(name: str) -> str:
    """The architecture's name in this timm, which has renamed some, without a tag."""
    from timm.models import get_deprecated_models

    base = name.split(".", 1)[0]
    return (get_deprecated_models().get(base) or base).split(".", 1)[0]


def _pretrained_config(name: str) -> dict[str, Any]:
    """timm's entry for a backbone; a RuntimeError where it has no such tag."""
    from timm.models import PretrainedCfg, get_deprecated_models, get_pretrained_cfg

    found = get_pretrained_cfg(get_deprecated_models().get(name) or name) or PretrainedCfg()
    entries: dict[str, Any] = found.to_dict()
    return entries
