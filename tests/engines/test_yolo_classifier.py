"""Classifiers that ultralytics trained: loaded, fed as their trainer fed them, described."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pillsnap.config.settings import Classification
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.agreement import origin_notes, require_agreement
from pillsnap.engines.torch.checkpoints import resolve_classify_transform
from pillsnap.engines.torch.describing import describe_classifier
from pillsnap.engines.torch.model import infer_torch
from pillsnap.engines.torch.timm_models import load_classifier
from pillsnap.engines.torch.yolo import quiet_ultralytics
from pillsnap.pipeline.preprocess import preprocess
from tests.small_models import Experiment

NAMES = {0: "aspirin", 1: "ibuprofen", 2: "zinc"}


def make(**transforms: Any) -> Any:
    quiet_ultralytics()
    import torch
    from ultralytics.data.augment import classify_transforms
    from ultralytics.nn.tasks import ClassificationModel

    torch.manual_seed(0)
    build: Any = ClassificationModel
    model = build("yolo11n-cls.yaml", nc=3, verbose=False).eval()
    model.names = NAMES
    model.transforms = classify_transforms(**{"size": 64, **transforms})
    return model


def save(model: Any, path: Path) -> Path:
    """As ultralytics' trainer does."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    args = {"task": "classify", "imgsz": 64}
    measured = {"metrics/accuracy_top1": 0.75}
    content = {"model": None, "ema": model, "train_args": args, "train_metrics": measured}
    torch.save(content, path)
    return path


SETTINGS = Classification("yolo11n-cls", 3)


def test_its_logits_and_names_are_those_of_ultralytics(tmp_path: Path) -> None:
    import torch

    model = make()
    loaded = load_classifier(SETTINGS, save(model, tmp_path / "a.pt"))
    images = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images))[1].numpy()
    np.testing.assert_array_equal(infer_torch(loaded.module, images), expected)
    assert (loaded.class_names, loaded.recorded) == (tuple(NAMES.values()), 0.75)
    assert (loaded.origin.entry, loaded.origin.said.size) == ("ema", (64, 64))


def test_it_is_fed_as_ultralytics_feeds_it(experiment: Experiment) -> None:
    from PIL import Image
    from ultralytics.data.augment import classify_transforms

    config = replace(experiment(size=64), classification=SETTINGS)
    transform = resolve_classify_transform(config)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    image = Image.fromarray(pixels)
    expected = classify_transforms(64)(image).numpy()
    np.testing.assert_allclose(preprocess(pixels, transform), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("told", "refused", "noted"),
    [
        ({}, None, None),
        (
            {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
            r"set classification.mean: \[0.5",
            None,
        ),
        ({"interpolation": "BICUBIC"}, None, "model.transforms.interpolation bicubic"),
        ({"size": 96}, None, "model.transforms.img_size [96, 96]"),
    ],
)
def test_what_its_transforms_say_is_held_against_config(
    experiment: Experiment,
    tmp_path: Path,
    told: dict[str, Any],
    refused: str | None,
    noted: str | None,
) -> None:
    config = replace(experiment(size=64), classification=SETTINGS)
    path = save(make(**told), tmp_path / "a.pt")
    origin = load_classifier(SETTINGS, path).origin
    transform = resolve_classify_transform(config)
    notes = origin_notes(config, "classification", origin, transform)
    if refused is None:
        require_agreement(config, "classification", origin.said, transform, path)
        assert (notes == []) is (noted is None)
        assert noted is None or noted in notes[0]
    else:
        with pytest.raises(CheckpointError, match=refused):
            require_agreement(config, "classification", origin.said, transform, path)


def test_it_is_described_whole(tmp_path: Path) -> None:
    told = describe_classifier(save(make(interpolation="BICUBIC"), tmp_path / "a.pt"))
    assert (told.architecture, told.num_classes) == ("yolo11n-cls", 3)
    assert (told.class_names, told.size) == (tuple(NAMES.values()), (64, 64))
    assert told.preprocessing["interpolation"] == "bicubic"
    assert (told.preprocessing["mean"], told.preprocessing["crop_pct"]) == ((0, 0, 0), 1.0)


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (Classification("test_resnet", 3), "set classification.backbone: yolo11n-cls"),
        (Classification("yolo11n-cls", 4), "set classification.num_classes: 3"),
        (replace(SETTINGS, checkpoint_entry="model"), "ema"),
        (
            replace(SETTINGS, builder="torch.nn:Identity"),
            "leave classification.builder out",
        ),
    ],
)
def test_another_than_configured_is_refused(
    tmp_path: Path, settings: Classification, hint: str
) -> None:
    path = save(make(), tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as caught:
        load_classifier(settings, path)
    assert hint in str(caught.value)


def test_a_head_that_is_none_is_refused(tmp_path: Path) -> None:
    import torch

    model = make()
    model.model[-1].linear = torch.nn.Linear(7, 3)
    with pytest.raises(CheckpointError, match="network does not run"):
        load_classifier(SETTINGS, save(model, tmp_path / "a.pt"))
