"""The reference engine: what it must not change while it is run in float64."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config
from pillsnap.core.arraycache import ArrayCache
from pillsnap.core.errors import EngineError
from pillsnap.engines.protocol import Request
from pillsnap.engines.timing import TimesAlone
from pillsnap.engines.torch import engine
from pillsnap.engines.torch.engine import OneByOne
from pillsnap.engines.torch.model import TorchEngine
from pillsnap.engines.torch.safe_load import LoadedModel
from tests.small_models import Experiment, make_detector, save_detector


def make_engine() -> TorchEngine:
    import timm

    module = timm.create_model("test_resnet", pretrained=False, num_classes=4).eval()
    return TorchEngine(lambda: LoadedModel(module), {}, device="cpu", threads=1)


def test_a_run_in_float64_is_closer_to_the_truth_and_leaves_the_model_as_it_is() -> None:
    engine = make_engine()
    batch = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    output = engine.run(batch)
    exact = engine.run_exact(batch)
    assert exact.dtype == np.float64
    # Blockings of float32 move its last digits, of float64 none that float32 has.
    in_float32 = np.abs(OneByOne(engine).run(batch) - exact).max()
    assert 0 < in_float32 < 1e-4
    assert np.abs(np.concatenate([engine.run_exact(batch[:1]), exact[1:]]) - exact).max() < 1e-12
    assert {p.dtype for p in engine.loaded.module.parameters()} == {torch.float32}
    np.testing.assert_array_equal(engine.run(batch), output)


def test_a_network_that_cannot_be_run_in_float64_is_named() -> None:
    class Mixed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, :4] @ torch.ones(4, 4)

    engine = TorchEngine(
        lambda: LoadedModel(Mixed()), {"checkpoint": "best.pt"}, device="cpu", threads=1
    )
    batch = np.zeros((1, 3, 4, 4), np.float32)
    assert engine.run(batch).shape == (1, 4)
    with pytest.raises(EngineError, match=r"cannot run this network in float64.*\n.*best.pt"):
        engine.run_exact(batch)


@pytest.mark.parametrize(
    "file",
    [
        *("engine.py", "model.py", "timm_models.py", "yolo.py", "checkpoints.py", "safe_load.py"),
        *("backbones.py", "statedict.py", "trainer.py", "raw_boxes.py", "torchfile/machine.py"),
        *("images.py", "preprocess.py", "transforms.py"),
    ],
)
def test_what_is_remembered_depends_on_the_code_that_answered(
    config: Config, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    cell = Cell("classification", "onnx", "cpu", "fp32", "smoke")
    request = Request(config, cell, threads=1)
    known = engine.open_reference(request).key
    assert engine.open_reference(request).key == known
    hash_of = engine.sha256_file

    def changed(path: Path) -> str:
        return "0" * 64 if str(path).endswith(f"/{file}") else hash_of(path)

    monkeypatch.setattr(engine, "sha256_file", changed)
    assert engine.open_reference(request).key != known


def test_class_names_are_known_and_remembered(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment("yolo11n", boxes_of=3)
    cell = Cell("detection", "onnx", "cpu", "fp32", "smoke")
    cache = ArrayCache(tmp_path / "cache", 2**20)
    request = Request(config, cell, threads=1, cache=cache)
    names = engine.open_reference(replace(request, cache=None)).class_names
    assert len(names) == 3
    assert engine.open_reference(request).class_names == names
    monkeypatch.setattr(engine, "build_model", None)
    assert engine.open_reference(request).class_names == names


def test_a_gpu_that_torch_cannot_compute_on_is_a_message(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can compute on this GPU")
    # What it says of a GPU that is older than itself, or whose driver is.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    compare = replace(config.compare, reference_device="cuda")
    config = replace(config, export=replace(config.export, compare=compare))
    cell = Cell("classification", "onnx", "cpu", "fp32", "smoke")
    with pytest.raises(EngineError, match=r"(?s)reference_device.*got: .*NVIDIA driver|CUDA enab"):
        engine.open_reference(Request(config, cell, threads=1))


def test_what_training_recorded_is_said_of_the_reference(
    experiment: Experiment, tmp_path: Path
) -> None:
    import torch

    config = experiment(backbone="test_resnet")
    checkpoints = config.exp_dir / "checkpoints"
    trained = torch.load(checkpoints / "classification_best.pt")
    content = {"state_dict": trained, "metric": 93.5, "args": {"eval_metric": "top1"}}
    torch.save(content, checkpoints / "classification_best.pt")
    save_detector(
        make_detector("yolo11n", 1),
        checkpoints / "detection_best.pt",
        train_metrics={"metrics/mAP50-95(B)": 0.71, "fitness": 0.71},
    )
    cache = ArrayCache(tmp_path / "cache", 2**20)
    for stage, expected in (("classification", 0.935), ("detection", 0.71)):
        cell = Cell(stage, "onnx", "cpu", "fp32", "smoke")
        for _ in range(2):  # computed, then remembered
            request = Request(config, cell, threads=1, cache=cache)
            opened = engine.open_reference(request)
            assert opened.engine.info["recorded"] == pytest.approx(expected)
            assert opened.strides == (() if stage == "classification" else (8, 16, 32))


def test_torch_against_itself_is_timed() -> None:
    engine = OneByOne(make_engine())
    assert isinstance(engine, TimesAlone)
    alone = engine.alone(np.zeros((1, 3, 32, 32), np.float32))
    assert len(alone.seconds) >= 5
    assert alone.peak_memory_mib is None  # it shares this process


KEPT = """
import ctypes
import numpy as np
from pillsnap.engines.torch.model import keep_freed_memory

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo2
keep_freed_memory()
mapped = libc.mallinfo2().hblkhd
block = np.ones(100 << 20, np.uint8)
assert libc.mallinfo2().hblkhd == mapped, "mapped anew, and so cleared by the kernel each time"
arena = libc.mallinfo2().arena
del block
assert libc.mallinfo2().arena == arena, "given back"
"""


def test_freed_memory_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
