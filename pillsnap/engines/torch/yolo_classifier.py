"""Classifier checkpoints of ultralytics, loaded without running what is pickled in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.settings import Classification
from pillsnap.core.alternatives import ULTRALYTICS
from pillsnap.engines.torch.agreement import another_architecture, another_head
from pillsnap.engines.torch.network import broken_network, class_names, try_network
from pillsnap.engines.torch.pickled import CLASSIFIERS
from pillsnap.engines.torch.safe_load import LoadedModel, Origin, require_finite
from pillsnap.engines.torch.trainer import recorded_accuracy, transform_facts
from pillsnap.engines.torch.yolo import architecture, quiet_ultralytics
from pillsnap.engines.torch.yolo_weights import plain_name

if TYPE_CHECKING:
    import torch


def load_yolo_classifier(settings: Classification, path: Path) -> LoadedModel:
    """Load a classifier that ultralytics saved, as trained.

    Raises:
        CheckpointError: unsafe, damaged or foreign file, or another model than configured.
        EngineError: ultralytics is not installed, or not in a version that is known.
    """
    model, recorded, origin = read_yolo_classifier(settings.checkpoint_entry, path)
    _require_settings(settings, model, path)
    require_finite(model, path)
    module = _logits_of(model)
    try_network(module, (1, settings.num_classes), path)
    return LoadedModel(module, (), class_names(model, path), recorded, origin)


def read_yolo_classifier(chosen: str | None, path: Path) -> tuple[Any, float | None, Origin]:
    """The model in a .pt (its EMA if there is one, unless `chosen` is another entry): float32,
    evaluation mode; the top-1 that training recorded; and where it stands. Errors are
    load_yolo_classifier's."""
    ULTRALYTICS.require()
    quiet_ultralytics()
    found = CLASSIFIERS.read(chosen, path)
    CLASSIFIERS.require_head(found.model, path)
    try:
        said = transform_facts(found.content, vars(found.model).pop("transforms", None))
        origin = Origin(found.entry, found.entries, said)
        return found.model.float().eval(), recorded_accuracy(found.content), origin
    except Exception as error:  # whatever attributes of another kind raise
        raise broken_network(path, error) from error


def count_classes(model: Any) -> int | None:
    """How many classes such a model tells apart; None where its last layer says none."""
    weight = getattr(getattr(model.model[-1], "linear", None), "weight", None)
    return None if weight is None or weight.ndim != 2 else len(weight)


def _logits_of(model: Any) -> torch.nn.Module:
    """A model as a function to logits [N,classes], which stand beside its probabilities."""
    import torch

    model.model[-1].export = False

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found = self.model(images)
            # Before 8.3 probabilities alone, whose logarithms have the same softmax.
            logits: torch.Tensor = found[1] if isinstance(found, tuple) else found.log()
            return logits

    return Logits().eval()


def _require_settings(settings: Classification, model: Any, path: Path) -> None:
    found, classes = architecture(model), count_classes(model)
    if found and plain_name(found) != plain_name(settings.backbone):
        raise another_architecture(found, "classification.backbone", settings.backbone, path)
    if classes != settings.num_classes:
        key = "classification.num_classes"
        raise another_head("classifier", classes, key, settings.num_classes, path)
