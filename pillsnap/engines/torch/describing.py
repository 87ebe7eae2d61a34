"""What a checkpoint tells of its model by itself, before there is a configuration for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pillsnap.config.settings import Classification, CropMode, Detection
from pillsnap.core.alternatives import ULTRALYTICS
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.backbones import (
    create_backbone,
    data_config,
    is_yolo,
    require_backbone,
    trained_architecture,
)
from pillsnap.engines.torch.network import class_names
from pillsnap.engines.torch.raw_boxes import has_queries
from pillsnap.engines.torch.safe_load import holds_yolo_classifier, read_content, require_checkpoint
from pillsnap.engines.torch.statedict import Wanted, find_weights
from pillsnap.engines.torch.tensorfile import opens_as_safetensors, read_safetensors
from pillsnap.engines.torch.timm_models import (
    SAVE_WEIGHTS,
    layer_side,
    refuse_detector,
    require_fit,
    weights_of,
)
from pillsnap.engines.torch.torchfile.objects import entries_of
from pillsnap.engines.torch.trainer import (
    Facts,
    Sides,
    classifier_facts,
    detector_facts,
    training_arguments,
)
from pillsnap.engines.torch.yolo import (
    QUERY_STRIDE,
    architecture,
    quiet_ultralytics,
    read_pickled,
    require_detection_head,
)
from pillsnap.engines.torch.yolo_classifier import count_classes, read_yolo_classifier

if TYPE_CHECKING:
    import torch

# The last layer of a YOLO's class branch.
_CLASS_BIAS = re.compile(r"\.cv3\.0\.2\.bias$")


@dataclass(frozen=True)
class Told:
    """What a checkpoint tells; None, or nothing, where it does not.

    Attributes:
        architecture: a name of ultralytics or timm.
        num_classes: size of the head.
        class_names: by index.
        size: height and width of the input in pixels.
        said: what else training was told.
        preprocessing: by key of config's `classification`.
    """

    architecture: str | None
    num_classes: int | None
    class_names: tuple[str, ...] = ()
    size: Sides | None = None
    said: Facts = field(default_factory=Facts)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


def describe_detector(path: Path) -> Told:
    """Of a .pt that ultralytics saved, or of a .safetensors; errors are load_detector's, but that
    the network is not run."""
    require_checkpoint(path)
    ULTRALYTICS.require()
    quiet_ultralytics()
    if opens_as_safetensors(path):
        content = read_safetensors(path)
        head = (
            tensor for name, tensor in _tensors(content, path).items() if _CLASS_BIAS.search(name)
        )
        said, names = detector_facts(content), content.get("names")
        listed = tuple(map(str, names.values())) if isinstance(names, Mapping) else ()
        return Told(None, next(map(len, head), None), listed, said.size, said)
    model, _, origin = read_pickled(Detection(), path)
    head = require_detection_head(model, path)
    stride = QUERY_STRIDE if has_queries(head) else int(max(head.stride))
    size = origin.said.size
    if size is not None:  # as its trainer rounds it up
        size = (-(-size[0] // stride) * stride, -(-size[1] // stride) * stride)
    names = class_names(model, path)
    return Told(architecture(model) or None, head.nc, names, size, origin.said)


def describe_classifier(path: Path, backbone: str | None = None) -> Told:
    """Of a state dict, with what timm's trainer wrote beside it.

    Args:
        backbone: where the checkpoint does not say it.

    Raises:
        CheckpointError: unsafe or damaged file, no classifier, an unknown backbone, or one that the
            weights are not of.
    """
    refuse_detector(path)
    if holds_yolo_classifier(path):
        return _describe_yolo(path)
    content = read_content(path, {}, SAVE_WEIGHTS)
    name = backbone or trained_architecture(content)
    said, told = classifier_facts(content), training_arguments(content)
    if name is None:
        return Told(None, _head_size(_tensors(content, path)), size=said.size)
    require_backbone(name)
    settings = Classification(name)
    module: Any = create_backbone(settings)
    weights = weights_of(module, settings, content, path)
    classes = weights and layer_side(module, weights.state, "classifier", 0)
    if weights is None or not classes:
        raise CheckpointError(
            "the checkpoint has no classes where this backbone has them",
            where=path,
            got=f"no {name} with a head",
            expected="the state dict of a timm classifier",
            hint="name the backbone that was trained: --backbone NAME",
        )
    if not module.pretrained_cfg.get("fixed_input_size"):  # else of its own size, perhaps
        settings = replace(settings, num_classes=classes)
        require_fit(settings, create_backbone(settings), weights.state, path)
    mode, size = told.get("crop_mode"), said.size
    found: dict[str, Any] = {
        "mean": said.mean,
        "std": said.std,
        "interpolation": said.interpolation,
        "crop_pct": said.crop_pct,
        "crop_mode": mode if mode in get_args(CropMode) else None,
    }
    # timm's trainer takes the backbone's own where it is told nothing.
    if "crop_pct" in told:
        own = data_config(name)
        found |= {key: own[key] for key in found if found[key] is None and not told.get(key)}
        size = size or own["input_size"][1:]
    return Told(name, classes, size=size, preprocessing=found)


def _describe_yolo(path: Path) -> Told:
    model, _, origin = read_yolo_classifier(None, path)
    said, name = origin.said, architecture(model)
    found = {key: getattr(said, key) for key in ("mean", "std", "interpolation", "crop_pct")}
    own = data_config(name) if is_yolo(name) else {}
    found |= {key: own[key] for key in found if found[key] is None and own}
    names = class_names(model, path)
    return Told(name or None, count_classes(model), names, said.size, said, found)


def _tensors(content: object, path: Path) -> dict[str, torch.Tensor]:
    """The tensors by name in a checkpoint of an unknown network."""
    weights = find_weights(content, Wanted((), None, "checkpoint_entry"), path)
    if weights is None:
        kind = "keys " + ", ".join(map(str, list(entries_of(content))[:8]))
        raise CheckpointError("the checkpoint holds no state dict", where=path, got=kind)
    return weights.state


def _head_size(state: Mapping[str, torch.Tensor]) -> int | None:
    """Rows of the last matrix that has a bias of as many."""
    sizes = [
        len(tensor)
        for name, tensor in state.items()
        if name.endswith(".weight")
        and tensor.ndim in (2, 4)
        and getattr(state.get(f"{name[: -len('weight')]}bias"), "shape", ()) == tensor.shape[:1]
    ]
    return sizes[-1] if sizes else None
