"""Diagnoses in a process of their own: one that crashes or hangs costs itself alone."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import pytest

from pillsnap.config.cells import Cell
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config, Paths
from pillsnap.gate.diagnosing_process import Answer, Job, Task, run_jobs
from pillsnap.gate.run import GateRun
from tests.children import in_children

# Stands for what models do: a job does what its file is called.
ANSWER = """
import os, signal, tempfile, time
import pillsnap.gate.diagnosing_process as process
process.LIMIT_S = 2
def answer(run, job, exports):
    what = job[-1].model.name
    tempfile.mkdtemp(prefix=what)
    if what == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hangs":
        time.sleep(600)
    if what == "fails":
        raise RuntimeError("no such luck")
    return {"pid": os.getpid(), "nan": float("nan")}
process._answer = answer
"""


def task(what: str, mode: str = "smoke") -> Task:
    return Task(Cell("classification", "onnx", what, "fp32", mode), Path(what), ())


def test_a_job_that_ends_its_process_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in in_children(tmp_path / "child", ANSWER).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = Config(paths=Paths(tmp_path))
    run = partial(GateRun, config, Selection(), threads=1, run_dir=tmp_path / "run")
    names = ("well", "fails", "crashes", "fine", "hangs", "good")
    jobs: list[Job] = [(task(name),) for name in names]
    crashed = (task("crashes"), task("pair"))
    pairs: list[Job] = [crashed, (task("well"), task("pair", "full"))]
    answers = run_jobs(run, [*jobs, *pairs])
    assert crashed not in answers
    assert set(answers) == {*jobs, pairs[1]}
    well, fails, crashes, fine, hangs, good = (answers[job] for job in jobs)
    assert fails == Answer(problem="RuntimeError: no such luck")
    assert "SIGSEGV" in crashes.problem
    assert hangs.problem.startswith("given up after")
    values = [each.value for each in (well, fine, good, answers[pairs[1]])]
    assert all(value is not None and value["nan"] != value["nan"] for value in values)
    # As few processes as can be: one, and another after each that ended.
    assert len({value["pid"] for value in values if value is not None}) == 3
    # What they left on the disk went with them.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["child"]
