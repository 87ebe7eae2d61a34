"""A report is there before anything is diagnosed: whatever ends the run then, it stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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
    options = ("-m", "smoke", "--engine", "onnx", f"--candidate=classification={model}")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *WITHOUT, *options],
        cwd=project.path,
        env=in_children(project.path / "child", HANGS),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        diagnosing = project.path / "exp" / "diagnosing"
        end = time.monotonic() + 60
        while not diagnosing.exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        published = project.report_path.read_bytes()
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, output
    assert project.report_path.read_bytes() == published
    gate = project.report()["gate"]
    assert (gate["verdict"], gate["exit_code"], gate["complete"]) == ("breach", 1, True)
    if code == 1:
        assert "gate: breach, complete, exit code 1" in output
        assert "Traceback" not in output
    _wait_for_end(int(diagnosing.read_text()))


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
