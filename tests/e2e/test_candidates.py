"""`--candidate`: a file is held to what its metadata say it was made for."""

from __future__ import annotations

from pathlib import Path

import onnx

from pillsnap.config.load import load_config
from pillsnap.export import export_classification_onnx
from tests.e2e.demo_project import DemoProject


def run(project: DemoProject, file: Path) -> tuple[int, str]:
    options = ("-m", "smoke", "-q", "--stage", "classification")
    done = project.run("pytest", *options, f"--candidate=classification={file}")
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout


def test_a_file_of_another_normalisation_is_a_breach(project: DemoProject) -> None:
    file = export_classification_onnx(load_config(project.config, {})).path
    assert run(project, file)[0] == 0
    project.settings["classification"]["mean"] = [0.485, 0.456, 0.406]
    project.write_config()
    code, _ = run(project, file)
    assert code == 1
    (cell,) = project.report()["cells"]
    assert cell["verdict"] == "breach"
    assert cell["reason"].startswith("the candidate was made for something else: preprocess.mean")


def test_a_file_without_metadata_is_verified_and_noted(
    project: DemoProject, tmp_path: Path
) -> None:
    model = onnx.load(export_classification_onnx(load_config(project.config, {})).path)
    del model.metadata_props[:]
    foreign = tmp_path / "foreign.onnx"
    onnx.save(model, foreign)
    code, shown = run(project, foreign)
    assert code == 0
    (cell,) = project.report()["cells"]
    assert cell["verdict"] == "equivalent"
    assert "note: classification: the candidate has no metadata of pillsnap" in shown
