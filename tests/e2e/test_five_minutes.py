"""The first page as a newcomer follows it: the wheel in an environment of its own, two models and
their data under names of their own, outside the clone."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from pillsnap.config.load import load_config
from pillsnap.demo.dataset import ASSETS, install
from pillsnap.report import SCHEMA_PATH
from tests.documents import ROOT, block
from tests.serve.running import wait_until_served
from tests.wheel import install_wheel

Run = Callable[..., subprocess.CompletedProcess[str]]

# What the demo's classifier was trained with, which its bare state dict does not say.
TRAINED = {
    "mean": "[0.5, 0.5, 0.5]",
    "std": "[0.5, 0.5, 0.5]",
    "interpolation": "bicubic",
    "crop_pct": "1.0",
    "crop_mode": "center",
    "classification": "[1, 3, 96, 96]",
}
FEW = {"sample_count": 8, "batch_size": 4, "shard_size": 4, "max_total": 8}
PYTEST_INI = "[pytest]\naddopts = -p pillsnap.plugin --strict-markers --strict-config\n"
OWN_TESTS = "from pillsnap.testing import test_equivalence\n\ndef test_own(): pass\n"
# A target that has neither torch nor what reads checkpoints.
TARGET = (
    "import sys\nfor name in ('torch', 'torchvision', 'timm', 'ultralytics'):\n"
    "    sys.modules[name] = None\n"
)


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a fresh environment with the wheel; the libraries are those that are here."""
    fresh = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", fresh], check=True, timeout=120)
    (packages,) = fresh.glob("lib/python3*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "libraries.pth").write_text("\n".join(here) + "\n")
    python = ("--python", str(fresh / "bin/python"))
    install_wheel(tmp_path_factory.mktemp("source"), before=python)
    return fresh / "bin"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty git repository with the demo's models and data under other names."""
    demo = load_config(ROOT / "config.yaml", {})
    install(demo.exp_dir)
    data = demo.exp_dir / "demo_data/val"
    path = tmp_path_factory.mktemp("own")
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    (path / "runs/detect/train/weights").mkdir(parents=True)
    shutil.copy(ASSETS / "detection_best.pt", path / "runs/detect/train/weights/best.pt")
    shutil.copy(ASSETS / "classification_best.pt", path / "pills.pth")
    (path / "val").symlink_to(data / "single")
    (path / "scenes").symlink_to(data / "combo")
    (path / "data.yaml").write_text("path: scenes\nval: images\nnames: [pill]\n")
    return path


@pytest.fixture(scope="module")
def run(binaries: Path, repository: Path) -> Run:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    ours.pop("PYTHONPATH", None)
    ours["PATH"] = f"{binaries}{os.pathsep}{ours['PATH']}"

    def run(*command: str, cwd: Path = repository) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=cwd, env=ours, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def gated(run: Run, repository: Path) -> Path:
    """The repository after the first page's commands, whose output is what stands there."""
    shown = block("README.md", "pip install 'pillsnap[headless,cpu]'").replace("\\\n", "")
    _, init, gate = shown.splitlines()
    assert run(*shlex.split(init)).stdout.strip() == block("README.md", "detector runs/detect")
    config = repository / "config.yaml"
    few = "".join(f"    {key}: {value}\n" for key, value in FEW.items())
    text = config.read_text().replace("  compare:\n", f"  compare:\n{few}")
    for key, value in TRAINED.items():
        assert f"{key}: FILL" in text
        text = text.replace(f"{key}: FILL", f"{key}: {value}")
    config.write_text(text)
    done = run(*shlex.split(gate), "--threads=1", "--save-reference", "bundle")
    assert "\ngate: equivalent, complete, exit code 0\n" in done.stdout
    return repository


def only(pattern: str) -> Callable[[str, list[str]], list[str]]:
    """What copytree leaves out: all but the files that match."""
    return lambda _, names: [name for name in names if not fnmatch(name, pattern)]


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "exp/export/export_report.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA_PATH.read_text())).validate(found)
    assert found["gate"]["verdict"] == "equivalent"
    return found


def test_the_report_is_of_the_models_that_were_named(gated: Path) -> None:
    found = report(gated)
    assert [cell["samples"] for cell in found["cells"]] == [8, 8]
    paths = {stage: Path(facts["ckpt_path"]).name for stage, facts in found["stages"].items()}
    assert paths == {"detection": "best.pt", "classification": "pills.pth"}
    # Labels, classes and preprocessing are those of the training.
    assert min(cell["accuracy"]["found"] for cell in found["cells"]) > 0.5
    assert not (gated / "exp/checkpoints").exists()


def test_beside_tests_of_its_own(run: Run, gated: Path) -> None:
    (gated / "tests").mkdir()
    (gated / "tests/test_own.py").write_text(OWN_TESTS)
    (gated / "pytest.ini").write_text(PYTEST_INI)
    assert "4 passed, " in run("python", "-m", "pytest", "-m", "smoke", "--threads=1").stdout
    assert report(gated)["provenance"]["command"].startswith("pytest -m smoke")
    run("python", "-m", "pytest", "-m", "coverage", "-n", "2", "--stage", "classification")
    assert [cell["mode"] for cell in report(gated)["cells"]] == ["coverage"]


def test_what_has_passed_is_run(run: Run, gated: Path) -> None:
    (gated / "photos").mkdir()
    shutil.copytree(gated / "scenes/images", gated / "photos/today", ignore=only("000[1-3].png"))
    shown = block("docs/service.md", "pillsnap infer --inputs").replace("\\\n", "")
    run(*shlex.split(shown))
    results = (gated / "results.csv").read_text().splitlines()
    assert len({line.partition(",")[0] for line in results}) == 1 + 3  # with the head
    assert len([*(gated / "drawn").rglob("*.*")]) == 3
    for stage, name in (("detection", "best"), ("classification", "pills")):
        shutil.copy(gated / f"exp/export/latest_{stage}.onnx", gated / f"{name}.onnx")
    run(*shlex.split(block("docs/service.md", "pillsnap pipeline --out ship/")))
    assert (gated / "ship/pillsnap_pipeline.py").exists()
    lines = run("pillsnap", "infer", "--inputs", "val/K-000*/000.png").stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert len(answers) == 24
    right = [each["code"] == Path(each["image"]).parent.name for each in answers]
    assert sum(right) >= 23


def test_what_has_passed_is_served(binaries: Path, gated: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shown = block("docs/service.md", "pillsnap serve --port 8000").replace("8000", str(port))
    log, command = tmp_path / "log", shlex.split(shown)
    command[0] = str(binaries / command[0])
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
    with log.open("w") as file, client:
        server = subprocess.Popen(command, cwd=gated, stdout=file, stderr=file)
        try:
            wait_until_served(client, server, log)
            photo = (gated / "val/K-000123/000.png").read_bytes()
            answer = client.post("/predict", content=photo, headers={"content-type": "image/png"})
        finally:
            server.terminate()
            server.wait(60)
    assert answer.json()["results"][0]["code"] == "K-000123"


def test_a_target_without_torch_needs_the_bundle_alone(
    run: Run, gated: Path, tmp_path: Path
) -> None:
    shutil.copytree(gated / "bundle", tmp_path / "bundle")
    settings = yaml.safe_load((gated / "config.yaml").read_text())
    del settings["data"], settings["detection"]["checkpoint"]
    del settings["classification"]["checkpoint"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "conftest.py").write_text(TARGET)
    for stage in ("detection", "classification"):
        shutil.copy(gated / f"exp/export/latest_{stage}.onnx", tmp_path / f"{stage}.onnx")
    models = [f"--candidate={stage}={stage}.onnx" for stage in ("detection", "classification")]
    run("pillsnap", "gate", "--reference", "bundle", "--threads=1", *models, cwd=tmp_path)
    assert [cell["samples"] for cell in report(tmp_path)["cells"]] == [8, 8]
