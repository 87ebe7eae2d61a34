"""Checkpoints of an experiment: where they are, and torch modules built from them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config
from pillsnap.core.alternatives import OPENCV, TORCH
from pillsnap.core.errors import CheckpointError, MissingCheckpoint
from pillsnap.core.fetching import fetched
from pillsnap.core.filesystems import RemoteError
from pillsnap.engines.protocol import Transform
from pillsnap.engines.torch.agreement import require_agreement
from pillsnap.engines.torch.backbones import data_config, is_yolo
from pillsnap.engines.torch.built_detector import load_built_detector
from pillsnap.engines.torch.safe_load import LoadedModel
from pillsnap.engines.torch.tensorfile import SUFFIX
from pillsnap.engines.torch.timm_models import load_classifier
from pillsnap.engines.torch.yolo import QUERY_STRIDE, load_detector, require_size
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform

if TYPE_CHECKING:
    import torch

_SUFFIXES = (".pt", SUFFIX)


@dataclass(frozen=True)
class Network:
    """What torch must know of a stage's checkpoints.

    Attributes:
        build: the model in a checkpoint.
        transform: its preprocessing.
        trainer: package that trained the one that is configured, and whose code is run.
        unwrap: the network as exporters see it; a detector is wrapped in what makes rows of its
            answer.
    """

    build: Callable[[Config, Path], LoadedModel]
    transform: Callable[[Config], Transform]
    trainer: Callable[[Config], str]
    unwrap: Callable[[Any], torch.nn.Module]


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints in a folder, sorted by name; none when it is missing, or elsewhere and not
    listed."""
    with suppress(OSError, RemoteError):
        files = [path for path in folder.iterdir() if path.name.endswith(_SUFFIXES)]
        return sorted(path for path in files if path.is_file())
    return []


def named_checkpoint(config: Config, stage: str) -> Path | None:
    """The file that config names as a stage's checkpoint, whether it is there or not."""
    return getattr(getattr(config, stage, None), "checkpoint", None)


def checkpoint_paths(config: Config, stage: str) -> list[Path]:
    """Where the checkpoint of a stage belongs: where config says, else under one of these names."""
    named = named_checkpoint(config, stage)
    folder = config.exp_dir / "checkpoints"
    names = [folder / f"{stage}_best{suffix}" for suffix in _SUFFIXES]
    return names if named is None else [named]


def find_best_checkpoint(config: Config, stage: str) -> Path:
    """The checkpoint that config names, else exp_dir/checkpoints/<stage>_best.pt, or .safetensors.

    Raises:
        MissingCheckpoint: it is not there; names the path and what lies beside it.
        CheckpointError: both are there.
    """
    paths = checkpoint_paths(config, stage)
    found = [path for path in fetched(paths) if path.exists()]
    if len(found) > 1:
        # Copying changes which is the newest, so none can stand for the other.
        raise CheckpointError(
            f"there are two {stage} checkpoints",
            where=paths[0].parent,
            got=" and ".join(path.name for path in found),
            expected="one of them",
            hint="move the other away",
        )
    if found:
        return found[0]
    beside = ", ".join(other.name for other in list_checkpoints(paths[0].parent)[:8])
    if named_checkpoint(config, stage) is not None:
        hint = f"mend {stage}.checkpoint in {config.source}"
    else:
        hint = f"put the trained {stage} model there, as {' or '.join(p.name for p in paths)}, "
        hint += f"or set {stage}.checkpoint, or change paths.exp_dir"
    raise MissingCheckpoint(
        f"there is no {stage} checkpoint",
        where=paths[0],
        got=f"beside it: {beside}" if beside else None,
        hint=hint,
    )


def build_detection_model(config: Config, ckpt: Path) -> LoadedModel:
    """The detector in `ckpt`; see LoadedModel; errors are load_detector's, load_built_detector's
    and require_size's."""
    shape, own = config.export.input_shape.detection, config.detection.builder is not None
    if own:
        loaded = load_built_detector(config.detection, ckpt, shape)
    else:
        loaded = load_detector(config.detection, ckpt)
    require_size(*shape[2:], max(loaded.strides, default=1 if own else QUERY_STRIDE))
    require_agreement(config, DETECTION, loaded.origin.said, letterbox_transform(config), ckpt)
    return loaded


def build_classification_model(config: Config, ckpt: Path) -> LoadedModel:
    """The classifier in `ckpt`; see LoadedModel; errors are load_classifier's,
    resolve_classify_transform's and require_agreement's."""
    size = config.export.input_shape.classification[2]
    loaded = load_classifier(config.classification, ckpt, size)
    transform = resolve_classify_transform(config)
    require_agreement(config, CLASSIFICATION, loaded.origin.said, transform, ckpt)
    return loaded


def build_model(config: Config, stage: str, ckpt: Path) -> LoadedModel:
    """The model of a stage in `ckpt`; raises EngineMissing where there is no torch."""
    TORCH.require()
    return NETWORKS[stage].build(config, ckpt)


def model_settings(config: Config, stage: str) -> dict[str, Any]:
    """What config says of a stage's model, but for where its checkpoint lies: of a key that holds
    the checkpoint's content it must not be a part."""
    settings = asdict(getattr(config, stage))
    return {name: value for name, value in settings.items() if name != "checkpoint"}


def stage_transform(config: Config, stage: str) -> Transform:
    """The preprocessing of a stage; errors are resolve_classify_transform's."""
    return NETWORKS[stage].transform(config)


def count_params(module: torch.nn.Module) -> float:
    """Parameters in millions, to the single one; a shared parameter counts once."""
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 6)


def resolve_classify_transform(config: Config) -> ClassifyTransform:
    """The classifier's preprocessing: config's values, timm's for those that are null.

    Where all but crop_mode are given timm is not asked, since a machine that serves has none.

    Raises:
        CheckpointError: timm is asked and does not know the backbone, or it has a value for it
            that this preprocessing cannot repeat.
    """
    settings = config.classification
    size = config.export.input_shape.classification[2]
    names = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
    given = {name: getattr(settings, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if given.keys() >= {*names} - {"crop_mode"}:
        return ClassifyTransform(size, **given)
    if settings.builder is not None:
        raise CheckpointError(
            "a builder's network has no preprocessing of its own",
            where=f"config: classification.builder: {settings.builder}",
            hint="give classification.mean, std, interpolation and crop_pct themselves",
        )
    own = data_config(settings.backbone)
    unknown = {
        name: value for name, value in own.items() if name not in (*names, "input_size") and value
    }
    try:
        if unknown:
            raise ValueError(", ".join(f"{name} is {value}" for name, value in unknown.items()))
        return ClassifyTransform(size, **{name: own[name] for name in names} | given)
    except ValueError as error:
        raise CheckpointError(
            "timm's own preprocessing of this backbone has what pillsnap does not know",
            where="config: classification",
            got=f"{settings.backbone}: {error}",
            hint="give classification.mean, std, interpolation, crop_pct and crop_mode themselves",
        ) from error


def letterbox_transform(config: Config) -> LetterboxTransform:
    """The detector's preprocessing, to export.input_shape.detection; errors as OPENCV.require."""
    OPENCV.require()
    _, _, height, width = config.export.input_shape.detection
    return LetterboxTransform(height, width)


NETWORKS = {
    DETECTION: Network(
        build_detection_model,
        letterbox_transform,
        lambda config: "ultralytics",
        lambda module: module.model,
    ),
    CLASSIFICATION: Network(
        build_classification_model,
        resolve_classify_transform,
        lambda config: "ultralytics" if is_yolo(config.classification.backbone) else "timm",
        lambda module: module,
    ),
}
