"""Checkpoints of small models, and experiment folders that hold them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.load import load_config
from pillsnap.config.settings import Classification, Config, Detection, Export, InputShape, Paths
from pillsnap.demo.dataset import install
from pillsnap.plugin.state import STATE
from tests.small_models import (
    DetectorFile,
    Experiment,
    make_classifier,
    make_detector,
    save_detector,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(trylast=True)  # the plugin knows by then whether the gate alone was asked for
def pytest_configure(config: pytest.Config) -> None:
    """A warning is an error in these tests. Not in a gate's run, so not in pytest.ini, which holds
    before the plugin is there: what others warn of is no verdict."""
    state = config.stash.get(STATE, None)
    if state is None or not state.asked:
        config.addinivalue_line("filterwarnings", "error")
        _keep_to_own_cpus()


def _keep_to_own_cpus() -> None:
    """Each worker, and what it starts, on CPUs of its own: of sessions that each take all of them,
    a third of the time is waiting for each other's threads."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        cpus = sorted(os.sched_getaffinity(0))
        own = cpus[int(worker.removeprefix("gw")) % len(cpus) :: workers]
        os.sched_setaffinity(0, own)


@pytest.fixture(scope="module")
def config(one_torch_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The demo's own config, with a place of its own for what it exports."""
    demo = load_config(ROOT / "config.yaml", {})
    install(demo.exp_dir)
    return replace(demo, export=replace(demo.export, out_dir=tmp_path_factory.mktemp("export")))


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    """Saves an onnx.ModelProto as the candidate of a test."""

    def save(model: Any) -> Path:
        import onnx

        path = tmp_path / "candidate.onnx"
        onnx.save(model, path)
        return path

    return save


@pytest.fixture(scope="session")
def one_torch_thread() -> Iterator[None]:
    """Threads of small models only wait for each other on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def detector_file(one_torch_thread: None, tmp_path_factory: pytest.TempPathFactory) -> DetectorFile:
    """A saved detector of an architecture and class count, made once."""
    folder = tmp_path_factory.mktemp("detectors")

    def get(name: str = "yolo11n", classes: int = 1) -> Path:
        path = folder / f"{name}-{classes}.pt"
        return path if path.exists() else save_detector(make_detector(name, classes), path)

    return get


@pytest.fixture
def experiment(tmp_path: Path, detector_file: DetectorFile) -> Experiment:
    """An experiment folder with checkpoints in it, and the configuration for it."""

    def make(
        detector: str | None = None,
        backbone: str | None = None,
        *,
        classes: int = 5,
        boxes_of: int = 1,
        size: int = 64,
        image: tuple[int, int] = (64, 96),
        **export: Any,
    ) -> Config:
        import torch

        folder = tmp_path / "exp"
        checkpoints = folder / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        if detector is not None:
            shutil.copy(detector_file(detector, boxes_of), checkpoints / "detection_best.pt")
        if backbone is not None:
            state = make_classifier(backbone, classes).state_dict()
            torch.save(state, checkpoints / "classification_best.pt")
        shape = InputShape((1, 3, *image), (1, 3, size, size))
        return Config(
            paths=Paths(folder),
            detection=Detection(detector or "yolo11n", boxes_of),
            classification=Classification(backbone or "test_resnet", classes),
            export=replace(Export(input_shape=shape), **export),
        )

    return make
