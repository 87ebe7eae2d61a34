"""`pillsnap init` on models and data as they lie about, then the gate on what it wrote."""

from __future__ import annotations

import shutil

import pytest

from pillsnap.demo.dataset import ASSETS
from pillsnap.gate.init import main
from tests.e2e.demo_project import DemoProject

# What the demo's classifier was trained with, which its bare state dict does not say.
TRAINED = {
    "mean": "[0.5, 0.5, 0.5]",
    "std": "[0.5, 0.5, 0.5]",
    "interpolation": "bicubic",
    "crop_pct": "1.0",
    "crop_mode": "center",
    "classification": "[1, 3, 96, 96]",
}


def test_the_gate_on_what_init_wrote(
    project: DemoProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.path)
    project.config.unlink()
    shutil.rmtree(project.exp_dir)
    (project.path / "runs").mkdir()
    shutil.copy(ASSETS / "detection_best.pt", "runs/best.pt")
    shutil.copy(ASSETS / "classification_best.pt", "pills.pth")
    scenes = project.images / "combo"
    (project.path / "data.yaml").write_text(f"path: {scenes}\nval: images\nnames: [pill]\n")
    models = ["--detector=runs/best.pt", "--classifier=pills.pth", "--backbone=test_resnet"]
    data = ["--detector-data=data.yaml", f"--classifier-data={project.images / 'single'}"]
    assert main([*models, *data]) == 0
    assert capsys.readouterr().out.endswith("next: pillsnap gate\n")
    text = project.config.read_text().replace(
        "export:", "export:\n  compare: {sample_count: 8, batch_size: 4}"
    )
    text = text.replace("class_map: class_map.json", "class_map: null")  # it says the same
    for key, value in TRAINED.items():
        text = text.replace(f"{key}: FILL", f"{key}: {value}")
    project.config.write_text(text)
    done = project.run("pytest", "-m", "smoke", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    report = project.report()
    assert report["gate"]["verdict"] == "equivalent"
    assert {cell["samples"] for cell in report["cells"]} == {8}
    (note,) = (
        each for each in report["stages"]["classification"]["compare"]["notes"] if "map" in each
    )
    assert note.startswith(
        "no class_map: class 0 to 23 are the class folders in alphabetical order"
    )
    accurate = [cell["accuracy"]["found"] for cell in report["cells"]]
    assert min(accurate) > 0.5  # labels, classes and preprocessing are those of the training
    assert not (project.exp_dir / "checkpoints").exists()
