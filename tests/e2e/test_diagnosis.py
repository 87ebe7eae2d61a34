"""Diagnosis in real runs: on a breach by itself, on demand, and never in the verdict's way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pillsnap.config.load import load_config
from pillsnap.export import export_classification_onnx
from tests.children import in_children
from tests.e2e.demo_project import DemoProject

GATE = ("pytest", "-p", "no:cacheprovider", "-m", "smoke", "--stage", "classification")


@pytest.fixture
def faulty(project: DemoProject) -> Path:
    """The demo's classifier with the weights of its head scaled by 1.05."""
    model = onnx.load(export_classification_onnx(load_config(project.config, {})).path)
    tensor = next(t for t in model.graph.initializer if t.name == "fc.weight")
    values = numpy_helper.to_array(tensor) * np.float32(1.05)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path = project.path / "faulty.onnx"
    onnx.save(model, path)
    return path


def diagnosis(project: DemoProject) -> dict[str, Any] | None:
    (cell,) = project.report()["cells"]
    found: dict[str, Any] | None = cell["diagnosis"]
    return found


def test_breach_is_diagnosed(
    project: DemoProject, faulty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    done = project.run(*GATE, f"--candidate=classification={faulty}")
    assert done.returncode == 1, done.stdout
    found = diagnosis(project)
    assert found is not None
    assert found["problems"] == []
    assert len(found["samples"]) == 3
    place = found["layers"]["places"][0]
    assert (place["op_type"], place["module"], place["bracket_size"]) == ("Gemm", "fc", 1)
    assert found["budget"]["percent"]["network"] == 100
    assert found["pipeline"] is None
    assert found["causes"]["kind"] == "weights"
    script = project.out_dir / "repro" / "classification-onnx-auto-fp32-smoke" / "show.py"
    assert found["repro"] == str(script)
    assert script.is_file()
    text = " ".join(done.stdout.split())
    assert "first layer that differs: Gemm /fc/Gemm (fc), relative error 0.0" in text
    total = found["budget"]["total"]
    shares = "preprocess 0 %, network 100 %, softmax 0 %"
    assert f"difference by stage ({total:.2g} of probability an image): {shares}" in text
    assert "cause: weights: 1 differ from the checkpoint's (fc.weight)" in text
    assert str(script) in done.stdout.split()  # to be copied, however long it is
    summary = (project.path / "summary.md").read_text()
    assert "- first layer that differs: Gemm /fc/Gemm (fc)" in summary
    assert "- cause: weights: 1 differ" in summary


def test_with_both_stages_the_pipeline_is_shared_out(project: DemoProject, faulty: Path) -> None:
    project.settings["export"]["compare"]["sample_count"] = 8
    project.write_config()
    done = project.run(*GATE[:-2], f"--candidate=classification={faulty}")
    assert done.returncode == 1, done.stdout
    cells = {cell["stage"]: cell["diagnosis"] for cell in project.report()["cells"]}
    assert cells["detection"] is None
    percent = cells["classification"]["pipeline"]["percent"]
    assert list(percent) == [
        "preprocess",
        "network",
        "decode",
        "nms",
        "crop",
        "classifier",
        "softmax",
    ]
    assert percent["classifier"] > 95
    text = " ".join(done.stdout.split())
    assert re.search(
        r"difference of both stages together \([\d.e-]+ boxes and probabilities an image\): p", text
    )


def test_healthy_cell_is_diagnosed_on_demand_only(project: DemoProject) -> None:
    done = project.run(*GATE)
    assert done.returncode == 0, done.stdout
    assert diagnosis(project) is None
    assert not (project.out_dir / "repro").exists()
    done = project.run(*GATE, "--diagnose")
    assert done.returncode == 0, done.stdout
    found = diagnosis(project)
    assert found is not None
    assert (found["problems"], found["layers"]["places"]) == ([], [])
    text = " ".join(done.stdout.split())
    assert "finding: nothing differs beyond rounding on these samples by themselves (" in text
    assert "cause: " not in text and "difference by stage" not in text
    assert found["causes"]["tried"] == []


@pytest.mark.parametrize(
    ("broken", "parts"),
    [
        ("FreshExports.like", {"layers", "budget", "repro"}),
        ("process.make_subject", set()),
    ],
)
def test_failing_diagnosis_changes_nothing_else(
    project: DemoProject, faulty: Path, broken: str, parts: set[str]
) -> None:
    environ = in_children(
        project.path / "child",
        "import pillsnap.gate.diagnosing_process as process\n"
        "from pillsnap.diagnose import FreshExports\n"
        "def fail(*args, **options):\n"
        "    raise RuntimeError('no such luck')\n"
        f"{broken} = fail\n",
    )
    done = project.run(*GATE, f"--candidate=classification={faulty}", env=environ)
    assert done.returncode == 1, done.stdout
    report = project.report()
    assert report["gate"]["verdict"] == "breach"
    found = diagnosis(project)
    assert found is not None
    assert "RuntimeError: no such luck" in found["problems"][0]
    assert {name for name in ("layers", "budget", "causes", "repro") if found[name]} == parts
    assert "not diagnosed: " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
