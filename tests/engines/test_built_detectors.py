"""Detectors that a function of the user's own builds, and heads that are chosen."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.protocol import Request
from pillsnap.engines.torch.builders import is_built
from pillsnap.engines.torch.checkpoints import build_detection_model
from pillsnap.engines.torch.engine import open_reference
from pillsnap.engines.torch.model import infer_torch
from pillsnap.export import export_onnx
from tests.small_models import Experiment, make_detector

OWN = '''
import torch

class Cells(torch.nn.Module):
    """A box around each cell of eight pixels."""
    strides = (8,)

    def __init__(self, num_classes):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4 + num_classes, 8, 8)

    def forward(self, images):
        found = self.layer(images)
        height, width = found.shape[2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centre = torch.stack((x, y)).to(found) * 8 + 4
        boxes = torch.cat((found[:, :2] + centre, found[:, 2:4].exp() * 8), 1)
        return torch.cat((boxes, found[:, 4:].sigmoid()), 1).flatten(2), None

def cells(num_classes):
    return Cells(num_classes)

def anywhere(num_classes):
    built = Cells(num_classes)
    built.strides = ()
    return built

def yolo(num_classes):
    from ultralytics.nn.tasks import DetectionModel
    return DetectionModel("yolo26n.yaml", nc=num_classes, verbose=False)

def features(num_classes):
    return torch.nn.Conv2d(3, 4 + num_classes, 8, 8)
'''


@pytest.fixture
def own(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A configuration with a module in the folder that the command starts in."""
    (tmp_path / "own_detectors.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own_detectors", raising=False)
    config = experiment()
    return replace(config, detection=replace(config.detection, num_classes=2))


def build(config: Config, function: str, num_classes: int = 2, *, file_of: str = "") -> Config:
    """The configuration with that builder, and weights that were trained for it."""
    import own_detectors  # type: ignore[import-not-found]

    torch.manual_seed(0)
    module = getattr(own_detectors, file_of or function)(2)
    torch.save(module.state_dict(), config.exp_dir / "checkpoints" / "detection_best.pt")
    detection = replace(config.detection, num_classes=num_classes)
    return replace(config, detection=replace(detection, builder=f"own_detectors:{function}"))


@pytest.mark.parametrize(("function", "strides"), [("cells", (8,)), ("anywhere", ())])
def test_a_network_of_ones_own_is_exported(
    own: Config, function: str, strides: tuple[int, ...]
) -> None:
    config = build(own, function)
    assert is_built(config, "detection")
    reference = open_reference(
        Request(config, Cell("detection", "onnx", "auto", "fp32", "smoke"), 1)
    )
    assert (reference.strides, reference.key) == (strides, None)
    images = np.random.default_rng(0).random((2, 3, 64, 96), np.float32)
    expected = reference.engine.run(images)
    assert expected.shape == (2, 96, 7)
    found = export_onnx(config, "detection")
    session = onnxruntime.InferenceSession(found.path, providers=["CPUExecutionProvider"])
    output = session.run(None, {"images": images})[0]
    np.testing.assert_allclose(output, expected[..., :6], atol=1e-4)


def test_one_that_ends_as_ultralytics_do_is_run_so(own: Config) -> None:
    config = build(own, "yolo")
    loaded = build_detection_model(config, config.exp_dir / "checkpoints" / "detection_best.pt")
    assert loaded.strides == (8, 16, 32)
    images = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    assert infer_torch(loaded.module, images).shape == (1, 126, 7)
    exported = export_onnx(config, "detection")
    assert exported.metadata["pillsnap.strides"] == "[8,16,32]"


@pytest.mark.parametrize(
    ("function", "classes", "says"),
    [
        ("features", 2, r"does not answer with boxes(?s:.)*\[1, 6, 8, 12\]"),
        ("cells", 3, r"does not fit the network(?s:.)*layer.weight"),
        ("gone", 2, r"detection.builder: own_detectors:gone"),
    ],
)
def test_what_is_no_detector_is_refused(
    own: Config, function: str, classes: int, says: str
) -> None:
    config = build(
        own, function, classes, file_of="features" if function == "features" else "cells"
    )
    with pytest.raises(CheckpointError, match=says):
        build_detection_model(config, config.exp_dir / "checkpoints" / "detection_best.pt")


def test_a_head_that_is_chosen_is_the_one_that_is_exported(experiment: Experiment) -> None:
    many = experiment("yolo26n", boxes_of=3)
    one = replace(many, detection=replace(many.detection, head="one_to_one"))
    images = np.random.default_rng(0).random((2, 3, 64, 96), np.float32)
    outputs = []
    for config in (many, one):
        cell = Cell("detection", "onnx", "auto", "fp32", "smoke")
        expected = open_reference(Request(config, cell, 1)).engine.run(images)
        file = export_onnx(config, "detection").path
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, {"images": images})[0])
        np.testing.assert_allclose(outputs[-1][..., :5], expected[..., :5], atol=1e-3)
    assert np.abs(outputs[0][..., 4] - outputs[1][..., 4]).max() > 0.05
    # The one-to-one head is what ultralytics itself ends in.
    model = make_detector("yolo26n", 3)
    model.end2end = True
    with torch.inference_mode():
        best = model(torch.from_numpy(images))[0]
    np.testing.assert_allclose(
        best[..., 4].amax(1).numpy(), outputs[1][..., 4].max(axis=1), atol=2e-3
    )


def test_a_network_without_such_a_head_is_refused(experiment: Experiment) -> None:
    config = experiment("yolo11n")
    chosen = replace(config, detection=replace(config.detection, head="one_to_one"))
    with pytest.raises(CheckpointError, match="no one-to-one head") as refused:
        build_detection_model(chosen, config.exp_dir / "checkpoints" / "detection_best.pt")
    assert "detection.head: one_to_many" in str(refused.value)
