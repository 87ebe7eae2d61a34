"""Small real models with random weights, and files as trainers write them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.settings import Config
from pillsnap.engines.torch.yolo import quiet_ultralytics

DetectorFile = Callable[..., Path]
Experiment = Callable[..., Config]


def make_detector(name: str, classes: int) -> Any:
    """An ultralytics model built from its yaml; weights and statistics are not trivial."""
    return copy.deepcopy(_built_detector(name, classes))


@cache
def _built_detector(name: str, classes: int) -> Any:
    quiet_ultralytics()
    import torch
    from ultralytics.nn.tasks import DetectionModel, SegmentationModel

    build: Any = SegmentationModel if name.endswith("-seg") else DetectionModel
    torch.manual_seed(0)
    try:
        model = build(f"{name}.yaml", nc=classes, verbose=False)
    except FileNotFoundError:
        pytest.skip(f"the installed ultralytics has no {name}")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            buffers: Any = module
            torch.nn.init.normal_(buffers.running_mean, 0.0, 0.1)
            torch.nn.init.uniform_(buffers.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(buffers.weight, 0.8, 1.2)
    head = model.model[-1]
    for layers in (head.cv3, getattr(head, "one2one_cv3", None) or ()):
        for layer in layers:
            torch.nn.init.normal_(layer[-1].bias, -1.0, 1.0)
    model.names = {index: f"pill{index}" for index in range(classes)}
    return model.eval()


def save_detector(averaged: Any, path: Path, **changes: Any) -> Path:
    """Save a model as ultralytics' trainer does: the EMA in half precision among other things."""
    import torch

    content = {
        "epoch": -1,
        "best_fitness": None,
        "model": None,
        "ema": averaged.half(),
        "train_args": {"task": "detect", "imgsz": 64},
        "date": "2025-01-01T00:00:00",
        "version": "8.4.0",
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def make_classifier(backbone: str = "test_resnet", classes: int = 5) -> Any:
    import timm
    import torch

    torch.manual_seed(0)
    return timm.create_model(backbone, pretrained=False, num_classes=classes).eval()
