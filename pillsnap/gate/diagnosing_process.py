"""Diagnoses made in a process of their own, which a broken model may crash, hang or fill up.

One process makes all of them, and notes each as soon as it is there. Where it ends on the way, the
one that it was about is lost, and another process goes on with the next.
"""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pillsnap.config.cells import Cell
from pillsnap.core.files import write_atomic
from pillsnap.core.isolated import IsolatedError, run_isolated
from pillsnap.diagnose import FreshExports, diagnose, make_subject, pipeline_budget, problem_of
from pillsnap.diagnose.subject import Subject
from pillsnap.export import read_onnx, read_with_weights
from pillsnap.gate.run import GateRun
from pillsnap.pipeline.images import read_image

LIMIT_S = 900
"""So long may one diagnosis take."""


@dataclass(frozen=True)
class Task:
    """A cell to diagnose.

    Attributes:
        model: the candidate's file.
        samples: ids and images to look at.
    """

    cell: Cell
    model: Path
    samples: tuple[tuple[str, Path], ...]


Job = tuple[Task, ...]
"""A cell by itself; or a detector's and a classifier's, for the pipeline they make."""

OpenRun = Callable[[], GateRun]
"""Makes the run whose cells they are, and pickles."""


@dataclass(frozen=True)
class Answer:
    """What a job came to: `value` as plain builtins, or why there is none."""

    value: dict[str, Any] | None = None
    problem: str = ""


def run_jobs(open_run: OpenRun, jobs: Sequence[Job]) -> dict[Job, Answer]:
    """The answer of every job, in processes that do not outlive this call.

    A job that shares a cell with one that ended its process is left out.
    """
    found: dict[Job, Answer] = {}
    left = list(jobs)
    with tempfile.TemporaryDirectory(prefix="pillsnap-diagnose-") as folder:
        notes = Path(folder, "answers")
        while left:
            problem = ""
            try:
                run_isolated(LIMIT_S * (len(left) + 1), _work, open_run, left, notes)
            except IsolatedError as error:
                problem = " ".join(str(error).split())
                if signal.SIGALRM.name in problem:
                    problem = f"given up after {LIMIT_S} s"
            done = [(job, _note(notes, job)) for job in left]
            found |= {job: Answer(**json.loads(p.read_bytes())) for job, p in done if p.exists()}
            left = [job for job in left if job not in found]
            if left:
                lost = left[0]
                found[lost] = Answer(problem=problem)
                cells = {task.cell for task in lost}
                left = [job for job in left[1:] if not cells & {task.cell for task in job}]
    return found


def _note(folder: Path, job: Job) -> Path:
    return folder / ("+".join(task.cell.id for task in job) + ".json")


def _work(open_run: OpenRun, jobs: Sequence[Job], notes: Path) -> None:
    """The process: every job in turn."""
    # Goes with the folder, however this process ends.
    tempfile.tempdir = str(notes.parent)
    run = open_run()
    with FreshExports(run.config) as exports:
        for job in jobs:
            signal.alarm(LIMIT_S)  # ends a process in whatever it hangs
            try:
                answer = Answer(_answer(run, job, exports))
            except Exception as error:  # whatever a broken model makes of torch, onnx and the rest
                answer = Answer(problem=problem_of(error))
            write_atomic(_note(notes, job), json.dumps(asdict(answer)).encode())
    signal.alarm(0)


def _answer(run: GateRun, job: Job, exports: FreshExports) -> dict[str, Any]:
    subjects = [_subject(run, task) for task in job]
    if len(subjects) == 1:
        return diagnose(subjects[0], exports, run.config.out_dir / "repro" / job[0].cell.id)
    detector, classifier = subjects
    candidate = read_with_weights(detector.model)
    healthy = read_onnx(exports.like(detector.stage, candidate))
    return pipeline_budget(detector, classifier, candidate, healthy).as_dict()


def _subject(run: GateRun, task: Task) -> Subject:
    reference = run.sides.reference(task.cell).reference
    return make_subject(
        run.config,
        task.cell,
        task.model,
        [(name, read_image(path)) for name, path in task.samples],
        transform=reference.transform,
        reference=reference.engine.run,
        threads=run.threads,
    )
