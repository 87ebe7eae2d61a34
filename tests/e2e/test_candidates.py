"""`--candidate`: a file is held to what its metadata say it was made for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from pillsnap.config.load import load_config
from pillsnap.export import export_classification_onnx
from pillsnap.proof.onnx_edits import add_constant, insert_after
from pillsnap.proof.roles import activations
from tests.e2e.demo_project import DemoProject


def run(project: DemoProject, file: Path, *more: str) -> tuple[int, str]:
    options = ("-m", "smoke", "-q", "--stage", "classification", *more)
    done = project.run("pytest", *options, f"--candidate=classification={file}")
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout


def test_a_file_of_another_normalisation_is_a_breach(project: DemoProject) -> None:
    file = export_classification_onnx(load_config(project.config, {})).path
    code, shown = run(project, file)
    assert code == 0
    assert "graph: identical to a fresh export (torchscript, opset 17)" in shown
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
    assert cell["graph"]["identical"] and not cell["graph"]["own"]


def test_a_file_that_was_changed_after_its_export_is_a_breach(
    project: DemoProject, tmp_path: Path
) -> None:
    model = onnx.load(export_classification_onnx(load_config(project.config, {})).path)
    most = add_constant(model, "most", np.float32(1e4))
    for index, name in enumerate(activations(model)):
        clip = helper.make_node("Clip", ["x", "", most], ["y"], name=f"cut/{index}")
        insert_after(model, name, clip)
    changed = tmp_path / "changed.onnx"
    onnx.save(model, changed)
    code, shown = run(project, changed)
    assert code == 1
    (cell,) = project.report()["cells"]
    assert [each["figure"] for each in cell["breaches"]] == ["graph_differences"]
    first = "Clip cut/0 added behind Relu /conv1/conv1.2/Relu"
    (cause,) = cell["likely_causes"]
    assert cause.startswith(f"the file was changed after it was exported: {first}; ")
    assert cell["diagnosis"] is None  # not one sample differs
    text = " ".join(shown.split())
    assert f"graph_differences 15 > 0 ({first})" in text
    assert f"graph: 15 differences from a fresh export (torchscript, opset 17): {first}; " in text
    assert "Clip cut/4 added" in text and "Clip cut/5 added" not in text


def test_a_file_with_a_softmax_inside_is_compared_by_its_probabilities(
    project: DemoProject, tmp_path: Path
) -> None:
    model = onnx.load(export_classification_onnx(load_config(project.config, {})).path)
    del model.metadata_props[:]
    insert_after(model, "logits", helper.make_node("Softmax", ["x"], ["y"], axis=1))
    file = tmp_path / "softmax.onnx"
    onnx.save(model, file)
    code, shown = run(project, file, "--layout", "classification=probabilities")
    assert code == 0
    (cell,) = project.report()["cells"]
    assert (cell["verdict"], cell["layout"]["name"]) == ("equivalent", "probabilities")
    text = " ".join(shown.split())
    assert "layout probabilities (logits): compared by probabilities" in text
    assert "graph not compared: a file of layout probabilities" in text
