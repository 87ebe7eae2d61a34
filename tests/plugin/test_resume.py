"""--resume: a run that was killed goes on where it stopped, and ends like one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.plugin.cut_off import RUN, outcomes, start, wait_for_outcomes
from tests.plugin.project import Project, Workers
from tests.plugin.test_runs import without_times

KILLS = 12

# Slow enough to be killed in the middle; its drift makes a report of many digits.
SLOW = """
import os, time
def fault(stage, batch, output):
    file = os.open({calls!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, b".")
    os.close(file)
    time.sleep({seconds})
    drift = np.float32(2.0) * batch.mean(axis=(1, 2, 3))
    output[..., 0] += drift.reshape(-1, *[1] * (output.ndim - 2))
    return output
"""

SHARDS = 12 // 2 + 24 // 2


@pytest.fixture
def slow(project: Project) -> Path:
    """A project of shards of one batch each, and a file that grows by a byte with every batch."""
    project.settings["export"]["compare"].update(shard_size=2)
    project.write_config()
    calls = project.path / "calls"
    project.write_fault(SLOW.format(calls=str(calls), seconds=0.08))
    return calls


def kill(process: subprocess.Popen[bytes]) -> bool:
    """SIGKILL to the run and its workers; whether it was still going."""
    going = process.poll() is None
    if going:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    return going


def test_after_kills_at_any_moment_the_report_is_that_of_a_run_in_one_go(
    project: Project, slow: Path
) -> None:
    assert project.run(*RUN).ret == 1
    expected = without_times(project.report())
    clock = random.Random(0)
    killed = 0
    for number in range(KILLS):
        process = start(project, "--resume", *(("-n", "2") if number % 2 else ()))
        time.sleep(clock.uniform(0.3, 1.6))
        killed += kill(process)
    assert killed >= KILLS // 2  # the others were done before
    result = project.run(*RUN, "--resume")
    assert result.ret == 1
    report = project.report()
    assert report["gate"]["complete"]
    assert without_times(report) == expected
    assert list((project.path / "exp").rglob("*.tmp")) == []


def test_only_what_is_missing_is_run(project: Project, slow: Path, workers: Workers) -> None:
    process = start(project)
    wait_for_outcomes(project, 5)
    assert kill(process)
    done = outcomes(project)
    slow.unlink()
    exp = project.path / "exp"
    for half in [*exp.glob("runs/*/outcomes"), *exp.glob("runs/*/records")]:
        (half / ".pillsnap-0123456789abcdef.tmp").write_bytes(b"half")
    assert len(list(exp.rglob("*.tmp"))) >= 2
    assert project.run(*RUN, "--resume", *workers).ret == 1
    assert slow.stat().st_size == SHARDS - done
    assert list(exp.rglob("*.tmp")) == []
    assert len(list((project.path / "exp" / "runs").iterdir())) == 1
    # It is complete now: there is nothing to go on with.
    slow.unlink()
    assert project.run(*RUN, "--resume", *workers).ret == 1
    assert slow.stat().st_size == SHARDS
    assert len(list((project.path / "exp" / "runs").iterdir())) == 2


def test_of_a_network_that_own_code_builds_nothing_is_taken_over(
    project: Project, slow: Path
) -> None:
    """Which files that code reads nobody knows, nor whether they are what they were."""
    project.settings["classification"]["builder"] = "own:build"
    project.write_config()
    process = start(project)
    wait_for_outcomes(project, 8)
    assert kill(process)
    kept = [path.name for path in project.path.glob("exp/runs/*/outcomes/detection-*.json")]
    assert len(kept) < outcomes(project)
    slow.unlink()
    assert project.run(*RUN, "--resume").ret == 1
    assert slow.stat().st_size == SHARDS - len(kept)


def test_a_run_of_something_else_is_not_gone_on_with(project: Project, slow: Path) -> None:
    process = start(project)
    wait_for_outcomes(project, 3)
    assert kill(process)
    for change in (("--threads", "2"), ("--stage", "classification")):
        slow.unlink()
        assert project.run(*RUN, *change, "--resume").ret == 1
        assert slow.stat().st_size == (SHARDS if "--threads" in change else 24 // 2)
    # What was killed is still there for the same run.
    slow.unlink()
    assert project.run(*RUN, "--resume").ret == 1
    assert slow.stat().st_size < SHARDS


def test_what_changed_since_is_run_again(project: Project, slow: Path) -> None:
    process = start(project)
    wait_for_outcomes(project, 6)
    assert kill(process)
    done = outcomes(project)
    (image,) = (project.path / "combo" / "images").glob("00.png")
    image.write_bytes((image.parent / "01.png").read_bytes())
    records = sorted((project.path / "exp" / "runs").glob("*/records/*"))
    records[-1].write_bytes(records[-1].read_bytes()[:-1])
    slow.unlink()
    assert project.run(*RUN, "--resume").ret == 1
    assert slow.stat().st_size == SHARDS - done + 2


def test_a_run_that_is_still_going_is_left_alone(project: Project, slow: Path) -> None:
    process = start(project)
    try:
        wait_for_outcomes(project, 2)
        assert project.run(*RUN, "--resume").ret == 1
        assert process.wait(60) == 1
    finally:
        kill(process)
    runs = sorted((project.path / "exp" / "runs").iterdir())
    assert len(runs) == 2
    assert all((run / "done").exists() for run in runs)


@pytest.mark.parametrize("spread", [(), ("-n", "2")], ids=["none", "n2"])
def test_an_interrupted_run_is_gone_on_with(project: Project, slow: Path, spread: Workers) -> None:
    process = start(project, *spread)
    try:
        wait_for_outcomes(project, 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 2
    finally:
        kill(process)
    assert not project.report()["gate"]["complete"]
    slow.unlink()
    assert project.run(*RUN, "--resume", *spread).ret == 1
    assert slow.stat().st_size <= SHARDS - 3
    assert project.report()["gate"]["complete"]
