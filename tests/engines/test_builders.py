"""Classifiers that a function of the user's own builds."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision

from pillsnap.config.cells import Cell
from pillsnap.config.settings import Classification, Config
from pillsnap.core.arraycache import ArrayCache
from pillsnap.core.errors import CheckpointError, EngineError, PillsnapError
from pillsnap.engines.protocol import Request
from pillsnap.engines.torch.builders import is_built
from pillsnap.engines.torch.checkpoints import resolve_classify_transform
from pillsnap.engines.torch.engine import open_reference
from pillsnap.engines.torch.model import infer_torch
from pillsnap.engines.torch.timm_models import load_classifier
from pillsnap.export import export_onnx
from tests.small_models import Experiment

OWN = '''
import torch

def build(num_classes):
    return torch.nn.Sequential(
        Shifted(), torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(4, num_classes),
    )

class Shifted(torch.nn.Module):
    """A tensor of its own that is no buffer."""
    def __init__(self):
        super().__init__()
        self.by = torch.tensor([0.5])

    def forward(self, images):
        return images - self.by

def fails(num_classes):
    raise RuntimeError("no such thing")

def leaves(num_classes):
    raise SystemExit(3)

def names(num_classes):
    return "resnet18"
'''
GIVEN = {
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "crop_mode": "center",
}


@pytest.fixture
def own(
    experiment: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Config:
    """A configuration with a module in the folder that the command starts in, by a name of its own:
    what was imported stays."""
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = experiment(size=32)
    built = Classification(builder=f"{name}:build", num_classes=3, **GIVEN)  # type: ignore[arg-type]
    return replace(config, classification=built)


def save(module: torch.nn.Module, folder: Path) -> Path:
    path = folder / "weights.pt"
    torch.save({"state_dict": module.state_dict()}, path)
    return path


def test_torchvisions_need_that_line_alone(tmp_path: Path) -> None:
    settings = Classification(builder="torchvision.models:squeezenet1_1", num_classes=5)
    theirs = torchvision.models.squeezenet1_1(num_classes=5).eval()
    loaded = load_classifier(settings, save(theirs, tmp_path))
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded.module(batch), theirs(batch))
    wrong = replace(settings, num_classes=4)
    with pytest.raises(CheckpointError, match="does not fit") as refused:
        load_classifier(wrong, save(theirs, tmp_path))
    assert "torchvision.models:squeezenet1_1 with 4 classes" in str(refused.value)


def test_a_network_of_ones_own_is_exported(own: Config, tmp_path: Path) -> None:
    module = torch.nn.Sequential(
        torch.nn.Identity(),
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
    )
    checkpoint = own.exp_dir / "checkpoints/classification_best.pt"
    torch.save(module.state_dict(), checkpoint)
    found = export_onnx(own, "classification")
    batch = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(found.path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch) - 0.5).numpy()
    np.testing.assert_allclose(session.run(None, {"input": batch})[0], expected, atol=1e-5)
    # Which files its code reads nobody knows: it is exported anew by every run.
    marker = own.out_dir / "run.json"
    once = export_onnx(own, "classification", marker=marker)
    assert export_onnx(own, "classification", marker=marker).path == once.path
    assert not export_onnx(own, "classification").reused
    cell = Cell("classification", "onnx", "auto", "fp32", "smoke", False)
    cache = ArrayCache(tmp_path / "cache", 2**20)
    assert open_reference(Request(own, cell, 1, cache)).key is None
    assert not list((tmp_path / "cache").rglob("*"))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("gone", "AttributeError: module"),
        ("fails", "RuntimeError: no such thing"),
        ("names", "it built a str"),
        ("leaves", "SystemExit: 3"),
    ],
)
def test_what_builds_no_network_is_refused(
    own: Config, tmp_path: Path, function: str, why: str
) -> None:
    module = str(own.classification.builder).partition(":")[0]
    settings = replace(own.classification, builder=f"{module}:{function}")
    with pytest.raises(CheckpointError, match="builds no network") as refused:
        load_classifier(settings, save(torch.nn.Linear(1, 1), tmp_path))
    assert why in str(refused.value)


def test_a_network_that_answers_with_more_than_logits_is_refused() -> None:
    class Two(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images, images

    with pytest.raises(EngineError, match="answers with more than logits") as refused:
        infer_torch(Two(), np.zeros((1, 3, 4, 4), np.float32))
    assert "a tuple" in str(refused.value)


def test_a_task_from_outside_has_none(own: Config) -> None:
    assert is_built(own, "classification")
    assert not is_built(own, "detection")
    assert not is_built(own, "shapes")


def test_a_module_that_is_not_there_is_refused(own: Config, tmp_path: Path) -> None:
    settings = replace(own.classification, builder="no_such_package.models:build")
    with pytest.raises(CheckpointError, match="ModuleNotFoundError: No module named"):
        load_classifier(settings, save(torch.nn.Linear(1, 1), tmp_path))


def test_it_has_no_preprocessing_of_its_own(own: Config) -> None:
    assert resolve_classify_transform(own).mean == (0.5, 0.5, 0.5)
    bare = replace(own, classification=replace(own.classification, mean=None))
    with pytest.raises(PillsnapError, match="no preprocessing of its own"):
        resolve_classify_transform(bare)
