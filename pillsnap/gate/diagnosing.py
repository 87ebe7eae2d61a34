"""The cells of a finished run that are diagnosed, and what the report says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from pillsnap.compare.result import CellResult
from pillsnap.compare.verdict import GRAPH, concerns_outputs
from pillsnap.config.cells import Cell
from pillsnap.core.errors import PillsnapError
from pillsnap.diagnose import problem_of
from pillsnap.engines import find_entry
from pillsnap.gate.diagnosing_process import Task, run_jobs
from pillsnap.gate.run import GateRun
from pillsnap.pipeline.twostage import STAGES_OF

SAMPLES = 3
"""So many of a cell's worst samples are looked at."""


def diagnose_cells(run: GateRun, results: Sequence[CellResult]) -> dict[str, dict[str, Any]]:
    """Diagnose every cell that can be and breached by what its model answers, or all of them
    if the options say so. Whatever a model does to the process that runs it comes back as a note.

    Returns:
        What `diagnose` gives, by cell id.
    """
    found: dict[str, dict[str, Any]] = {}
    wanted = [result for result in results if is_wanted(run, result)]
    tasks: dict[Cell, Task] = {}
    for result in filter(_can_run, results) if wanted else ():
        try:
            tasks[result.cell] = _task(run, result)
        except PillsnapError as error:
            if result in wanted:
                found[result.cell.id] = no_diagnosis(problem_of(error))
    cells = [(tasks[result.cell],) for result in wanted if result.cell in tasks]
    pairs = [
        tuple(tasks[each.cell] for each in pair)
        for pair in _pairs(results)
        if any(each in wanted for each in pair) and all(each.cell in tasks for each in pair)
    ]
    run.sides.close()  # the models are opened again elsewhere, and are large
    again = partial(GateRun, run.config, run.selection, threads=run.threads, run_dir=run.run_dir)
    answers = run_jobs(again, [*cells, *pairs])
    for job in cells:
        answer = answers[job]
        found[job[0].cell.id] = answer.value or no_diagnosis(answer.problem)
    for pair in pairs:
        for part in (found[task.cell.id] for task in pair if task.cell.id in found):
            if pair in answers and answers[pair].value is None:
                part["problems"].append(f"pipeline: {answers[pair].problem}")
            elif pair in answers:
                part["pipeline"] = answers[pair].value
    return found


def is_wanted(run: GateRun, result: CellResult) -> bool:
    """Whether diagnose_cells diagnoses a cell."""
    if not _can_run(result):
        return False
    breached = result.verdict.name == "breach" and (
        not result.verdict.breaches
        or concerns_outputs(each for each in result.verdict.breaches if each.figure != GRAPH)
    )
    return breached or run.selection.diagnose


def _can_run(result: CellResult) -> bool:
    plain = result.layout is None or result.layout["plain"]
    return plain and find_entry(result.cell.engine).diagnosed and _model_of(result) is not None


def _model_of(result: CellResult) -> Path | None:
    """The file that the cell's candidate was; None where none was compared."""
    paths = (each.candidate.get("path") for each in result.outcomes if each.failure is None)
    return next((Path(path) for path in paths if path), None)


def _task(run: GateRun, result: CellResult) -> Task:
    model = _model_of(result)
    assert model is not None  # by _can_run
    data = run.plan.data(result.cell.stage)
    names = result.worst[:SAMPLES] or tuple(sample.id for sample in data[:SAMPLES])
    by_id = {sample.id: sample.path for sample in data if sample.id in names}
    return Task(result.cell, model, tuple((name, by_id[name]) for name in names))


def _pairs(results: Sequence[CellResult]) -> Iterator[tuple[CellResult, CellResult]]:
    """Results of a detector and a classifier that were asked for alike."""

    def rest(result: CellResult) -> Cell:
        return replace(result.cell, stage="")

    for _, group in groupby(sorted(filter(_can_run, results), key=rest), key=rest):
        by_stage = {result.cell.stage: result for result in group}
        if by_stage.keys() >= {*STAGES_OF["combo"]}:
            detector, classifier = (by_stage[stage] for stage in STAGES_OF["combo"])
            yield detector, classifier


def no_diagnosis(problem: str) -> dict[str, Any]:
    """What the report says of a cell whose diagnosis came to nothing."""
    empty = dict.fromkeys(("layers", "budget", "pipeline", "causes", "repro"))
    return {"samples": [], **empty, "problems": [problem], "seconds": 0.0}
