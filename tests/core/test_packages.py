"""Packages beside pillsnap: none is laid over another, and what is wrong with them is said."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from pillsnap.config.settings import Config, Detection
from pillsnap.core.alternatives import (
    ONNXRUNTIME,
    OPENCV,
    TORCH,
    ULTRALYTICS,
    Alternatives,
    find_package_problems,
)
from pillsnap.core.errors import EngineError, EngineMissing
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.engines.torch.checkpoints import build_model, find_best_checkpoint
from pillsnap.engines.torch.yolo import load_detector
from pillsnap.pipeline.preprocess import preprocess
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform
from tests.core.distributions import register_distribution

ROOT = Path(__file__).parents[2]
SEVERAL = (ONNXRUNTIME, OPENCV, ULTRALYTICS)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that come before those that are installed."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def requirements() -> dict[str, list[Requirement]]:
    """What each extra of pyproject.toml asks for; "" is what is asked for without any."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: list(map(Requirement, lines)) for extra, lines in asked.items()}


def test_pillsnap_requires_no_package_that_another_distribution_may_hold() -> None:
    asked = {extra: {each.name for each in found} for extra, found in requirements().items()}
    rivals = {name for each in SEVERAL for name in each.distributions}
    assert asked[""] & rivals == set()
    assert asked["cpu"] == {"onnxruntime"}
    assert asked["gpu"] == {"onnxruntime-gpu"}
    assert asked["detection"] == {"pillsnap", "opencv-python", "ultralytics"}
    assert asked["headless"] == {
        "pillsnap",
        "opencv-python-headless",
        "ultralytics-opencv-headless",
    }
    # A clone has one of each.
    (whole,) = [each for each in requirements()["dev"] if each.name == "pillsnap"]
    assert whole.extras == {"gpu", "headless", "nncf", "ray", "serve"}
    # One series of versions: the bounds of a package are those of each of its distributions.
    bounds = {each.name: each.specifier for found in requirements().values() for each in found}
    assert bounds["onnxruntime"] == bounds["onnxruntime-gpu"]
    assert bounds["opencv-python"] == bounds["opencv-python-headless"]


def test_what_trains_is_an_extra_and_a_classifiers_team_installs_no_detector() -> None:
    asked = {extra: {each.name for each in found} for extra, found in requirements().items()}
    training = {"onnxscript", "timm", "torch", "torchvision"}
    assert asked["torch"] == training
    assert asked[""] & training == set()


def test_the_pinned_versions_are_within_the_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    for each in (each for found in requirements().values() for each in found):
        if each.name in pinned:
            assert pinned[each.name] in each.specifier, each


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("onnxruntime", "1.23.2"),  # has no get_provider_graph_assignment_info
        ("onnxruntime-gpu", "1.23.2"),
        ("opencv-python-headless", "4.10.0.82"),  # cannot be imported beside numpy 2.1
        ("opencv-python", "4.10.0.82"),
        ("ultralytics", "8.3.3"),
    ],
)
def test_versions_that_were_seen_to_fail_are_outside_the_bounds(name: str, version: str) -> None:
    (bounds,) = {
        each.specifier for found in requirements().values() for each in found if each.name == name
    }
    assert version not in bounds


@pytest.mark.parametrize(
    ("package", "command"),
    [
        (ONNXRUNTIME, "pip install 'pillsnap[cpu]', or 'pillsnap[gpu]'"),
        (OPENCV, "pip install 'pillsnap[headless]', or opencv-python-headless"),
        (ULTRALYTICS, "pip install 'pillsnap[detection]', or 'pillsnap[headless]'"),
        (TORCH, "pip install 'pillsnap[torch]'"),
    ],
    ids=lambda value: getattr(value, "module", ""),
)
def test_a_package_that_is_not_there_is_named_with_the_command(
    package: Alternatives, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.require()  # it is there
    monkeypatch.setitem(sys.modules, package.module, None)
    with pytest.raises(EngineMissing) as caught:
        replace(package, distributions=("nothing-of-this-name",)).require()
    assert f"{package.module} is not installed\n" in str(caught.value)
    assert command in str(caught.value)
    # As an uninstalled rival leaves it: pip takes it for installed.
    with pytest.raises(EngineMissing, match="by name, without its files") as caught:
        package.require()
    assert "pip install --force-reinstall --no-deps " in str(caught.value)


def test_a_checkpoint_needs_torch(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = find_best_checkpoint(config, "classification")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EngineMissing, match="torch is not installed"):
        build_model(config, "classification", checkpoint)


def test_a_folder_without_contents_is_no_package(packages: Path) -> None:
    left = Alternatives("left_behind", ("left-behind",), "pip install it")
    assert not left.is_there
    (packages / "left_behind").mkdir()
    assert not left.is_there
    (packages / "left_behind" / "__init__.py").touch()
    assert left.is_there


def test_a_version_outside_the_bounds_is_named(packages: Path) -> None:
    assert not [problem for problem in find_package_problems() if "numpy" in problem]
    register_distribution(
        packages,
        "pillsnap",
        "0.1.0",
        "numpy>=99",
        "onnx<2,>=1.18",
        'onnxruntime>=1.24.1; extra == "cpu"',
        'opencv-python>=4.10; extra == "detection"',
        'ruff>=99; extra == "dev"',
    )
    register_distribution(packages, "onnxruntime", "1.20.0")
    register_distribution(packages, "opencv-contrib-python", "4.5.5")  # bounds of its like
    problems = find_package_problems()
    assert [problem for problem in problems if "pillsnap needs" in problem] == [
        "onnxruntime 1.20.0 is installed, pillsnap needs >=1.24.1",
        "opencv-contrib-python 4.5.5 is installed, pillsnap needs >=4.10",
        f"numpy {np.__version__} is installed, pillsnap needs >=99",
    ]
    with pytest.raises(EngineError, match=r"onnxruntime 1\.20\.0 is installed, pillsnap needs >="):
        open_session(b"", "cpu", 1)


def test_a_detector_is_not_read_by_an_ultralytics_outside_the_bounds(
    packages: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "detector.pt"
    checkpoint.write_bytes(b"\x80\x02}.")
    register_distribution(packages, "pillsnap", "0.1.0", 'ultralytics>=8.3.4; extra == "detection"')
    register_distribution(packages, "ultralytics", "8.2.103")
    with pytest.raises(EngineError, match=r"ultralytics 8\.2\.103 is installed, pillsnap needs >="):
        load_detector(Detection(), checkpoint)


def test_a_package_that_is_installed_twice_is_named(packages: Path) -> None:
    assert not [problem for problem in find_package_problems() if "times" in problem]
    register_distribution(packages, "onnxruntime", "1.32.0")
    (problem,) = [problem for problem in find_package_problems() if "times" in problem]
    assert problem == (
        "onnxruntime is installed 2 times, each over the other's files: "
        f"onnxruntime-gpu {version('onnxruntime-gpu')}, onnxruntime 1.32.0; "
        "uninstall all of them, then install one"
    )


def test_a_classifier_does_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((30, 40, 3), 9, np.uint8)
    monkeypatch.setitem(sys.modules, "cv2", None)
    classify = ClassifyTransform(16, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    assert preprocess(image, classify).shape == (3, 16, 16)
    with pytest.raises(EngineError, match="OpenCV, which resizes a detector's images") as caught:
        preprocess(image, LetterboxTransform(32, 32))
    assert "pip install opencv-python-headless" in str(caught.value)
