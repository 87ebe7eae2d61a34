"""Where the refusal of a detector's checkpoint leads: to what can be done about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pillsnap.config.settings import Classification, Detection
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.timm_models import load_classifier
from pillsnap.engines.torch.yolo import load_detector, quiet_ultralytics
from tests.small_models import make_detector, save_detector


class Gate(torch.nn.Module):
    """A layer of the user's own."""


def own_layer() -> Any:
    model = make_detector("yolo11n", 1)
    model.model[2] = Gate()
    return model


def fused() -> Any:
    model = make_detector("yolo26n", 1)
    model.end2end = True
    model.model[-1].fuse()
    return model


@pytest.mark.parametrize(
    ("name", "make", "hint"),
    [
        ("yolo11n", own_layer, "a detector of own layers cannot be verified: train one of ultraly"),
        ("yolo11n-seg", lambda: make_detector("yolo11n-seg", 1), "train with task=detect, or give"),
        ("yolo26n", fused, "use the unfused checkpoint"),
    ],
    ids=["own layer", "other task", "fused"],
)
def test_a_detector_that_is_refused(tmp_path: Path, name: str, make: Any, hint: str) -> None:
    path = save_detector(make(), tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as caught:
        load_detector(Detection(name, 1), path)
    assert f"try:      {hint}" in str(caught.value)
    assert "state_dict" not in str(caught.value)  # which is none of what is taken


def test_a_yolo_classifier_is_no_backbone_of_timm_nor_a_detector(tmp_path: Path) -> None:
    quiet_ultralytics()
    from ultralytics.nn.tasks import ClassificationModel

    build: Any = ClassificationModel
    path = save_detector(build("yolo11n-cls.yaml", nc=3, verbose=False), tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as caught:
        load_classifier(Classification("test_resnet", 3), path)
    assert "detector" not in str(caught.value)
    assert "set classification.backbone: yolo11n-cls" in str(caught.value)
    with pytest.raises(CheckpointError, match="not a YOLO detection model") as caught:
        load_detector(Detection("yolo11n", 3), path)
    assert "a ClassificationModel, last layer Classify" in str(caught.value)
