"""Checkpoints of an experiment: where they are, and torch modules built from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.classifier import load_classifier, require_backbone
from pillsnap.config import Config
from pillsnap.detector import load_detector, require_size
from pillsnap.errors import MissingCheckpoint
from pillsnap.preprocess import ClassifyTransform, LetterboxTransform
from pillsnap.weights import LoadedModel

if TYPE_CHECKING:
    import torch

__all__ = [
    "LoadedModel",
    "build_classification_model",
    "build_detection_model",
    "build_model",
    "checkpoint_path",
    "count_params",
    "find_best_checkpoint",
    "letterbox_transform",
    "list_checkpoints",
    "resolve_classify_transform",
    "stage_transform",
]


def list_checkpoints(exp_dir: Path) -> list[Path]:
    """All .pt files in exp_dir/checkpoints, sorted by name; none when the folder is missing."""
    return sorted(path for path in (exp_dir / "checkpoints").glob("*.pt") if path.is_file())


def checkpoint_path(exp_dir: Path, stage: str) -> Path:
    """Where the checkpoint of a stage belongs."""
    return exp_dir / "checkpoints" / f"{stage}_best.pt"


def find_best_checkpoint(exp_dir: Path, stage: str) -> Path:
    """exp_dir/checkpoints/<stage>_best.pt.

    Raises:
        MissingCheckpoint: it is not there; names the path and what lies beside it.
    """
    path = checkpoint_path(exp_dir, stage)
    if path.exists():
        return path
    beside = ", ".join(other.name for other in list_checkpoints(exp_dir)[:8])
    raise MissingCheckpoint(
        f"there is no {stage} checkpoint",
        where=path,
        got=f"beside it: {beside}" if beside else None,
        hint=f"put the trained {stage} model there, or change paths.exp_dir",
    )


def build_detection_model(config: Config, ckpt: Path) -> LoadedModel:
    """The detector in `ckpt`; see LoadedModel; errors are load_detector's and require_size's."""
    loaded = load_detector(config.detection, ckpt)
    _, _, height, width = config.input_shape("detection")
    require_size(height, width, max(loaded.strides))
    return loaded


def build_classification_model(config: Config, ckpt: Path) -> LoadedModel:
    """The classifier in `ckpt`; see LoadedModel, and load_classifier for the errors."""
    return load_classifier(config.classification, ckpt)


def build_model(config: Config, stage: str, ckpt: Path) -> LoadedModel:
    """The model of a stage, "detection" or "classification", in `ckpt`."""
    build = build_detection_model if stage == "detection" else build_classification_model
    return build(config, ckpt)


def stage_transform(config: Config, stage: str) -> ClassifyTransform | LetterboxTransform:
    """The preprocessing of a stage; errors are resolve_classify_transform's."""
    return (
        letterbox_transform(config) if stage == "detection" else resolve_classify_transform(config)
    )


def count_params(module: torch.nn.Module) -> float:
    """Parameters in millions, to the single one; a shared parameter counts once."""
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 6)


def resolve_classify_transform(config: Config) -> ClassifyTransform:
    """The classifier's preprocessing: config's values, timm's for those that are null.

    Raises:
        CheckpointError: timm is asked and does not know the backbone.
    """
    settings = config.classification
    size = config.input_shape("classification")[2]
    mean, std, crop_pct = settings.mean, settings.std, settings.crop_pct
    interpolation: str | None = settings.interpolation
    if mean is None or std is None or interpolation is None or crop_pct is None:
        require_backbone(settings.backbone)
        from timm.models import PretrainedCfg, get_pretrained_cfg

        own = get_pretrained_cfg(settings.backbone) or PretrainedCfg()
        mean = _channels(own.mean) if mean is None else mean
        std = _channels(own.std) if std is None else std
        interpolation = own.interpolation if interpolation is None else interpolation
        crop_pct = own.crop_pct if crop_pct is None else crop_pct
    return ClassifyTransform(size, mean, std, interpolation, crop_pct)


def letterbox_transform(config: Config) -> LetterboxTransform:
    """The detector's preprocessing: into export.input_shape.detection."""
    _, _, height, width = config.input_shape("detection")
    return LetterboxTransform(height, width)


def _channels(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return (red, green, blue)
