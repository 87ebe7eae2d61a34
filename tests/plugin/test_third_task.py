"""A task is added from outside: one record, and nothing else is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.project import ROOT, Project, make_project
from tests.plugin.shapes_task import draw_bars


def run(project: Project, bias: float, *args: str) -> tuple[pytest.RunResult, dict[str, Any]]:
    (project.path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.plugin.shapes_task import register_bars\n"
        f"register_bars({bias})\n"
        'pytest_plugins = ["pillsnap.plugin"]\n'
    )
    result = project.run("--stage", "bars", *args, engine="edges")
    return result, json.loads(project.report_path.read_text())


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    made = make_project(pytester, per_class_k=6)
    draw_bars(Path(made.path) / "bars")
    return made


def test_a_third_task_passes_and_breaches_like_the_two(project: Project) -> None:
    result, report = run(project, 0.0, "-m", "smoke or coverage")
    assert result.ret == 0, result.outlines
    coverage, smoke = report["cells"]
    assert (smoke["id"], smoke["verdict"]) == ("bars-edges-auto-fp32-smoke", "equivalent")
    assert smoke["metrics"]["reference_top1"] == smoke["metrics"]["candidate_top1"] == 1
    assert smoke["exactness"]["parts"][0]["candidate"] == 0
    assert coverage["metrics"]["classes_asked"] == 2
    assert report["stages"]["bars"]["backbone"] == "edges"
    assert report["stages"]["bars"]["input_shape"] == [1, 3, 16, 16]
    assert report["stages"]["classification"] is None
    result.stdout.fnmatch_lines(["*bars-edges-auto-fp32-smoke*", "*mse *flips 0/*"])

    result, report = run(project, 8.0, "-m", "smoke", "--no-reference-cache")
    assert result.ret == 1
    (cell,) = report["cells"]
    figures = {breach["figure"] for breach in cell["breaches"]}
    assert cell["verdict"] == "breach" and "top1_mismatch_rate" in figures


def test_a_task_nobody_knows_is_refused_with_the_choices(project: Project) -> None:
    project.write_fault("")
    result = project.run("--stage", "bars")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--stage has no such choice*", "*detection, classification"])
