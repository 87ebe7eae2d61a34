"""Runs that are ended in the middle."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.plugin.project import WITHOUT, Project, heed_interrupts

RUN = ("-m", "full", "--threads", "1")


def start(project: Project, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", *WITHOUT, *RUN, "--engine", "numpy", *options]
    return subprocess.Popen(
        command,
        cwd=project.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


def outcomes(project: Project) -> int:
    return len(list((project.path / "exp" / "runs").glob("*/outcomes/*.json")))


def wait_for_outcomes(project: Project, count: int) -> None:
    """Wait until so many shards have yielded something."""
    deadline = time.monotonic() + 60
    while outcomes(project) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert outcomes(project) >= count
