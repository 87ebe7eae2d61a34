"""What training was told, as the checkpoint says, held against the configuration."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from pillsnap.config.cells import Cell
from pillsnap.config.settings import (
    Classification,
    Config,
    Data,
    Export,
    InputShape,
    Paths,
)
from pillsnap.config.validation import Combo, Validation
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.protocol import Request
from pillsnap.engines.torch.checkpoints import build_classification_model
from pillsnap.engines.torch.engine import open_reference
from pillsnap.engines.torch.trainer import Facts, classifier_facts, detector_facts
from tests.small_models import Experiment, make_classifier, make_detector, save_detector

CLASSIFIER = Classification("test_resnet", 5, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 1.0)


def build(path: Path, settings: Classification, **told: Any) -> Any:
    state = make_classifier(settings.backbone).state_dict()
    torch.save({"state_dict": state, "args": argparse.Namespace(**told)}, path)
    shape = InputShape(classification=(1, 3, 64, 64))
    config = Config(
        paths=Paths(Path("exp")), classification=settings, export=Export(input_shape=shape)
    )
    return build_classification_model(config, path)


def refusal(path: Path, settings: Classification, **told: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        build(path, settings, **told)
    return " ".join(str(caught.value).split())


@pytest.mark.parametrize(
    ("told", "configured", "built"),
    [
        ({"gp": "max"}, None, "max"),
        ({"gp": "fastmax"}, None, "max"),
        ({"gp": None}, None, "avg"),
        ({"gp": None}, "avg", "avg"),
        ({"gp": "fast"}, "avg", "avg"),
        ({}, "max", "max"),
        ({"gp": 10.0}, None, "avg"),  # of another trainer
    ],
)
def test_global_pooling_is_what_the_checkpoint_or_config_says(
    told: dict[str, Any], configured: Any, built: str, tmp_path: Path
) -> None:
    settings = replace(CLASSIFIER, global_pool=configured)
    loaded = build(tmp_path / "c.pt", settings, **told)
    wanted = timm.create_model("test_resnet", num_classes=5, global_pool=built).eval()
    wanted.load_state_dict(make_classifier().state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded.module(images), wanted(images))
    said = any("global pooling max, as the checkpoint says" in n for n in loaded.origin.notes)
    assert said is (configured is None and built == "max")


@pytest.mark.parametrize(("told", "trained"), [("max", "max"), (None, "avg")])
def test_another_global_pooling_is_refused_with_both(
    told: str | None, trained: str, tmp_path: Path
) -> None:
    settings = replace(CLASSIFIER, global_pool="avgmax")
    text = refusal(tmp_path / "c.pt", settings, gp=told)
    assert f"got: {trained} (args.gp" in text and "avgmax (classification.global_pool)" in text
    assert f"set classification.global_pool: {trained}, or null" in text


def test_a_pooling_that_the_backbone_lacks(tmp_path: Path) -> None:
    text = refusal(tmp_path / "c.pt", replace(CLASSIFIER, global_pool="map"))
    assert "test_resnet, global pooling map" in text


@pytest.mark.parametrize("name", ["mean", "std"])
def test_another_normalisation_is_refused_with_both(name: str, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    text = refusal(path, CLASSIFIER, **{name: [0.485, 0.456, 0.406]})
    assert f"got: args.{name}: [0.485, 0.456, 0.406]" in text
    assert f"expected: classification.{name}: [0.5, 0.5, 0.5]" in text
    assert f"set classification.{name}: [0.485, 0.456, 0.406]" in text
    # The same in other words, rounded, or what is none.
    for same in ([0.5], (127.5, 127.5, 127.5), [0.5, 0.501, 0.5], None, "0.5", [1, 2], ["a"] * 3):
        build(path, CLASSIFIER, **{name: same})
    assert "args.mean: [0, 0, 0]" in refusal(path, CLASSIFIER, mean=[0, 0, 0])


def test_what_else_differs_is_said_of_the_reference(experiment: Experiment) -> None:
    config = experiment(backbone="test_resnet")
    config = replace(config, classification=CLASSIFIER)
    args = argparse.Namespace(
        interpolation="bilinear", crop_pct=0.875, img_size=224, input_size=(3, 96, 96)
    )
    path = config.exp_dir / "checkpoints" / "classification_best.pt"
    torch.save({"state_dict": make_classifier().state_dict(), "args": args}, path)
    cell = Cell("classification", "onnx", "cpu", "fp32", "smoke")
    says = "classification: the checkpoint says args."
    assert open_reference(Request(config, cell, threads=1)).engine.info["notes"] == [
        f"{says}interpolation bilinear, config says bicubic (classification.interpolation)",
        f"{says}crop_pct 0.875, config says 1 (classification.crop_pct)",
        f"{says}img_size [96, 96], config says [64, 64] (export.input_shape.classification)",
    ]


def test_a_detectors_size_and_classes_are_said_of_the_reference(experiment: Experiment) -> None:
    config = experiment("yolo11n")
    told = {"task": "detect", "imgsz": 1280, "single_cls": True}
    path = config.exp_dir / "checkpoints" / "detection_best.pt"
    save_detector(make_detector("yolo11n", 1), path, train_args=told)
    cell = Cell("detection", "onnx", "cpu", "fp32", "smoke")

    def notes(combo: Combo | None) -> list[str]:
        data = Data(val=Validation(combo=combo))
        request = Request(replace(config, data=data), cell, threads=1)
        found: list[str] = open_reference(request).engine.info["notes"]
        return found

    size = (
        "detection: the checkpoint says train_args.imgsz [1280, 1280], config says [64, 96] "
        "(export.input_shape.detection)"
    )
    classes = (
        "detection: the checkpoint says train_args.single_cls true, config says false "
        "(data.val.combo.single_cls)"
    )
    assert notes(Combo(Path("images"), Path("labels"))) == [size, classes]
    assert notes(Combo(Path("images"), Path("labels"), single_cls=True)) == [size]
    assert notes(Combo(Path("images"))) == notes(None) == [size]


@pytest.mark.parametrize("junk", [None, 3, "x", [], {"args": 3}, {"args": {"img_size": "big"}}])
def test_what_says_nothing_is_nothing(junk: Any) -> None:
    assert classifier_facts(junk) == detector_facts(junk) == Facts()
    odd = {"imgsz": [float("nan"), 640], "single_cls": "yes"}
    assert detector_facts({"train_args": odd}) == Facts()
    told = {"gp": [1], "mean": [float("inf")] * 3, "interpolation": "random", "img_size": True}
    assert classifier_facts({"args": told}) == Facts()


def test_a_number_that_no_float_holds_is_none() -> None:
    huge = 10**400
    assert classifier_facts({"args": {"crop_pct": huge, "img_size": huge}}).crop_pct is None
    detector_facts({"train_args": {"imgsz": huge}})
