"""Broken models through whole runs: exit code 1, a message that names them, nothing executed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.e2e.demo_project import DemoProject


class Touch:
    """Unpickled without care, this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def checkpoint(project: DemoProject, stage: str) -> Path:
    return project.exp_dir / "checkpoints" / f"{stage}_best.pt"


def empty(project: DemoProject, stage: str) -> None:
    checkpoint(project, stage).write_bytes(b"")


def truncated(project: DemoProject, stage: str) -> None:
    path = checkpoint(project, stage)
    path.write_bytes(path.read_bytes()[:20_000])


def foreign(project: DemoProject, stage: str) -> None:
    checkpoint(project, stage).write_text("these are words")


def malicious(project: DemoProject, stage: str) -> None:
    torch.save(
        {"state_dict": {}, "model": Touch(project.path / "harm")}, checkpoint(project, stage)
    )


def malicious_old_format(project: DemoProject, stage: str) -> None:
    checkpoint(project, stage).write_bytes(pickle.dumps(Touch(project.path / "harm"), protocol=2))


def of_the_other_stage(project: DemoProject, stage: str) -> None:
    other = {"detection": "classification", "classification": "detection"}[stage]
    checkpoint(project, stage).write_bytes(checkpoint(project, other).read_bytes())


def other_head(project: DemoProject, stage: str) -> None:
    project.settings[stage]["num_classes"] = 40


def other_architecture(project: DemoProject, stage: str) -> None:
    name, model = {"detection": ("model", "yolo11s"), "classification": ("backbone", "resnet18")}[
        stage
    ]
    project.settings[stage][name] = model


def size_it_cannot_take(project: DemoProject, stage: str) -> None:
    project.settings["export"]["input_shape"][stage] = [1, 3, 630, 630]


@pytest.mark.parametrize(
    ("stage", "damage", "message"),
    [
        ("detection", empty, "an empty file"),
        ("detection", truncated, "truncated"),
        ("detection", foreign, "a text file"),
        ("detection", malicious, "is refused"),
        ("detection", malicious_old_format, "was not written by torch.save"),
        ("detection", of_the_other_stage, "holds no Ultralytics model"),
        ("detection", other_head, "detector of 1 classes, config says 40"),
        ("detection", other_architecture, "is a yolo11n, config says yolo11s"),
        ("detection", size_it_cannot_take, "640"),
        ("classification", empty, "an empty file"),
        ("classification", foreign, "a text file"),
        ("classification", malicious, "is refused"),
        ("classification", malicious_old_format, "was not written by torch.save"),
        ("classification", of_the_other_stage, "an Ultralytics detector, not a classifier"),
        ("classification", other_head, "24 classes"),
        ("classification", other_architecture, "missing"),
    ],
)
def test_broken_models_are_named_and_never_run(
    project: DemoProject,
    stage: str,
    damage: Callable[[DemoProject, str], None],
    message: str,
) -> None:
    damage(project, stage)
    project.write_config()
    before = checkpoint(project, stage).read_bytes()
    done = project.run("pytest", "-m", "smoke", "--stage", stage, "-q")
    assert done.returncode == 1, done.stdout + done.stderr
    (cell,) = project.report()["cells"]
    assert cell["verdict"] == "inconclusive"
    assert message in cell["reason"]
    assert "Traceback" not in done.stdout + done.stderr
    assert not (project.path / "harm").exists()
    assert checkpoint(project, stage).read_bytes() == before


def test_demo_folder_that_cannot_be_written_is_exit_4(project: DemoProject) -> None:
    project.settings["demo"] = True
    project.settings["paths"]["exp_dir"] = str(project.config / "below_a_file")
    project.write_config()
    done = project.run("pytest", "-m", "smoke", "-q")
    assert done.returncode == 4
    assert "below_a_file" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
