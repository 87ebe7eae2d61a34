"""A report is there before anything is diagnosed: whatever ends the run then, it stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.children import in_children
from tests.plugin.file_engine import install
from tests.plugin.project import WITHOUT, Project, heed_interrupts

# Stands for a model that takes its time: a diagnosis says who makes it, and ends no more.
HANGS = """
import os, pathlib, time
import pillsnap.gate.diagnosing_process as process
def answer(run, job, exports):
    path = run.config.exp_dir / "diagnosing"
    path.with_suffix(".tmp").write_text(str(os.getpid()))
    path.with_suffix(".tmp").replace(path)
    time.sleep(600)
process._answer = answer
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_what_is_published_stands_whatever_ends_a_diagnosis(
    project: Project, number: signal.Signals, code: int
) -> None:
    install(project, "onnx")
    model = project.path / "model.onnx"
    model.write_text("1.5")
    options = (f"--candidate=classification={model}",)
    diagnosing = project.path / "exp" / "diagnosing"
    ended, output, published = _end(project, number, diagnosing, *options)
    assert ended == code, output
    report = project.report()
    gate = report["gate"]
    assert (gate["verdict"], gate["exit_code"], gate["complete"]) == ("breach", 1, True)
    if code == 1:
        assert "gate: breach, complete, exit code 1" in output
        assert "warning: the diagnosis was interrupted" in output
        assert "not diagnosed: interrupted before it was finished" in output
        assert "Traceback" not in output
        for cell in report["cells"]:
            assert bool(cell["diagnosis"]) is (cell["verdict"] == "breach")
            cell["diagnosis"] = None
    assert report == published
    _wait_for_end(int(diagnosing.read_text()))


# Stands for a search that takes its time.
SEARCHES = """
import pathlib, time
import pillsnap.gate.sensitivity as sensitivity
from pillsnap.gate.conversion import Conversion
Conversion.__call__ = lambda conversion, source: source
def analyse(run, cell, tell):
    if cell.stage == "detection":
        return sensitivity.no_sensitivity("none of this test")
    (run.config.exp_dir / "searching").touch()
    time.sleep(600)
sensitivity._analyse = analyse
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("asked", ["--sensitivity", "--diagnose"])
def test_what_was_asked_for_and_is_broken_off_makes_a_run_incomplete(
    project: Project, number: signal.Signals, asked: str
) -> None:
    install(project, "onnx")
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + SEARCHES)
    what = {"--sensitivity": ("searching", "int8"), "--diagnose": ("diagnosing", "fp32")}
    started, precision = what[asked]
    path = project.path / "exp" / started
    ended, output, published = _end(project, number, path, "--precision", precision, asked)
    assert ended == 2, output
    if precision == "fp32":  # approved as long as it went on, and let out by no broken run
        assert all(published["gate"]["latest"].values())
    links = (project.path / "exp" / "export").glob("latest_*")
    assert not any(project.report()["gate"]["latest"].values()) and not list(links)
    assert (published["gate"]["exit_code"], published["gate"]["complete"]) == (0, True)
    report = project.report()
    assert (report["gate"]["exit_code"], report["gate"]["complete"]) == (2, False)
    assert "INCOMPLETE, exit code 2" in output
    assert "was interrupted" in output
    assert "Traceback" not in output
    assert not any(each["approved"] for each in report["gate"]["approvals"])
    said = "interrupted before it was finished"
    for cell in report["cells"]:
        if asked == "--diagnose":
            assert cell["diagnosis"]["problems"] == [said]
        else:  # what was found before stays
            found = "none of this test" if cell["stage"] == "detection" else said
            assert cell["sensitivity"]["problem"] == found
            words = f"which layers to keep in float is not known: {found}"
            assert words in " ".join(output.split())


def _end(
    project: Project, number: signal.Signals, started: Path, *options: str
) -> tuple[int, str, dict[str, Any]]:
    """End a run by a signal once a file is there: its exit code, what it showed, and the report as
    it was before."""
    command = (sys.executable, "-m", "pytest", *WITHOUT, "-m", "smoke", "--engine", "onnx")
    process = subprocess.Popen(
        [*command, *options],
        cwd=project.path,
        env=in_children(project.path / "child", HANGS),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        end = time.monotonic() + 60
        while not started.exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        published = project.report()
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, output, published


def _wait_for_end(pid: int) -> None:
    """Until a process is gone, or only waits for whoever adopted it to take note."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the diagnosis goes on by itself")
