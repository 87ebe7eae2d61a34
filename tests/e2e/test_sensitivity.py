"""--sensitivity on the demo: what it measures on, what it finds, and where that is shown."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml

from pillsnap.config.load import load_config
from pillsnap.config.selection import Selection
from pillsnap.core.errors import DataError
from pillsnap.core.hashes import sha256_file
from pillsnap.demo.drugs import DRUGS
from pillsnap.export import export_onnx
from pillsnap.export.quantize.int8 import count_compute
from pillsnap.export.quantize.trials import MARGIN
from pillsnap.gate.losses import FEW
from pillsnap.gate.run import GateRun
from tests.e2e.demo_project import DemoProject
from tests.small_models import make_classifier

INT8 = ("--precision", "int8", "--sensitivity", "-q")


@pytest.fixture
def small(project: DemoProject) -> DemoProject:
    project.settings["export"]["compare"].update(sample_count=16, batch_size=8, shard_size=8)
    project.settings["export"]["quantize"].update(calibration_images=32)
    project.write_config()
    return project


def sensitivity(project: DemoProject, cell: str) -> dict[str, Any]:
    cells = {each["id"]: each for each in project.report()["cells"]}
    found: dict[str, Any] = cells[cell]["sensitivity"]
    assert found["problem"] is None
    return found


def test_both_precisions_of_a_classifier(small: DemoProject) -> None:
    options = ("--precision", "fp16", *INT8, "--compare-calibration", "--stage", "classification")
    done = small.run("pytest", "-m", "smoke", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    said = r"^sensitivity of classification in int8, 32 layers: 64 models on a few.*; at most \d+ s"
    assert re.search(said, done.stdout, re.M)
    for precision in ("fp16", "int8"):
        found = sensitivity(small, f"classification-onnx-auto-{precision}-smoke")
        assert (found["images"], found["all_images"]) == (FEW, 32)
        assert len(found["layers"]) == 32
        assert all(
            layer["lowered"]["error"] < 0.01 > layer["kept"]["error"] for layer in found["layers"]
        )
        costly = max(found["layers"], key=lambda layer: layer["lowered"]["error"])
        assert 0 < costly["lowered"]["error"] < found["whole"]["error"]
        assert "layer2.0.downsample.1" in [m for each in found["layers"] for m in each["modules"]]
        # Size grows, loss falls from all lowered to float32, which has its own rounding alone.
        sizes = [point["size_bytes"] for point in found["trade"]]
        assert sizes == sorted(sizes) and sizes[-1] > 1.5 * sizes[0]
        assert found["trade"][0]["loss"] == found["whole"]
        assert found["trade"][-1]["loss"]["error"] < 1e-9
        assert found["loss"]["share"] <= found["margin"] == MARGIN
        assert set(found["lists"]) - {"nncf"} == {"nodes", "torch", "onnxruntime", "trtexec"}
        assert [each["method"] for each in found["calibrations"]] == (
            ["minmax", "entropy", "percentile"] if precision == "int8" else []
        )
    page = (small.out_dir / "export_report.html").read_text()
    for text in ("Which layers to keep in float", "Loss over size", "Loss over time", "percentile"):
        assert page.count(text) >= 1, text
    for text in ("costliest of 32 layers", "calibrated by", "percentile", "kept alone"):
        assert text in done.stdout, text


def open_run(project: DemoProject) -> GateRun:
    config = load_config(project.config, {})
    selection = Selection(precisions=("int8",), stages=("classification",))
    return GateRun(config, selection, threads=1, run_dir=project.path / "run")


def test_no_judged_image_teaches_and_labels_are_known(small: DemoProject) -> None:
    run = open_run(small)
    (cell,) = (each for each in run.plan.cells() if each.mode == "smoke")
    conversion = run.sides.conversion(cell, run.sides.reference(cell))
    losses = conversion.losses(conversion.calibration())
    judged = {sha256_file(path) for path in run.plan.files(cell)}
    assert len(losses.samples) == 32
    assert judged.isdisjoint(sha256_file(sample.path) for sample in losses.samples)
    assert all(sample.label is not None for sample in losses.samples)


def test_images_that_show_nothing_are_a_problem_of_their_own(
    small: DemoProject, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for index in range(32):
        (folder / f"{index}.png").write_text(str(index))
    small.settings["data"]["calibration"] = {"single": str(folder)}
    small.write_config()
    run = open_run(small)
    (cell,) = (each for each in run.plan.cells() if each.mode == "smoke")
    conversion = run.sides.conversion(cell, run.sides.reference(cell))
    losses = conversion.losses(conversion.calibration())
    model = onnx.load(export_onnx(run.config, "classification").path)
    with pytest.raises(DataError, match="none of them can be read"):
        losses.measure(model, False)


def test_of_a_reference_without_signal_auto_is_static(small: DemoProject) -> None:
    model = make_classifier(small.settings["classification"]["backbone"], len(DRUGS))
    path = small.exp_dir / "checkpoints/classification_best.pt"
    torch.save(model.state_dict(), path)
    run = open_run(small)
    (cell,) = (each for each in run.plan.cells() if each.mode == "smoke")
    conversion = run.sides.conversion(cell, run.sides.reference(cell))
    made = replace(conversion, method="auto")(export_onnx(run.config, "classification"))
    assert "-int8-static" in made.path.name


@pytest.mark.slow
def test_a_detector_that_int8_breaks_holds_on_images_that_its_set_was_not_chosen_on(
    small: DemoProject,
) -> None:
    # With nothing in float of its own, its decoding breaks it.
    small.settings["export"]["quantize"].update(nodes_to_exclude=[])
    small.write_config()
    options = ("--stage", "detection", *INT8)
    done = small.run("pytest", "-m", "smoke", *options)
    assert done.returncode == 1, done.stdout + done.stderr
    found = sensitivity(small, "detection-onnx-auto-int8-smoke")
    assert found["whole"]["share"] > 1 >= found["loss"]["share"] / MARGIN
    small.settings["export"]["quantize"].update(yaml.safe_load(found["lists"]["nodes"]))
    small.write_config()
    done = small.run(
        "pytest", "-m", "coverage", "--precision", "int8", "--stage", "detection", "-q"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (cell,) = json.loads((small.out_dir / "export_report.json").read_text())["cells"]
    assert cell["verdict"] == "within_tolerance" and cell["samples"] > 16
    model = onnx.load(next(small.out_dir.glob("detection-*-int8-static-2.onnx")))
    assert count_compute(model)[0] > 30
