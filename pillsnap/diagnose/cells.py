"""The cells of a finished run that are diagnosed, and what the report says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from pillsnap.cellresult import CellResult
from pillsnap.diagnose import (
    Budget,
    FreshExports,
    diagnose,
    make_subject,
    pipeline_budget,
    problem_of,
)
from pillsnap.diagnose.subject import Subject
from pillsnap.export import read_onnx, read_with_weights
from pillsnap.gate import concerns_outputs
from pillsnap.images import read_image
from pillsnap.matrix import STAGES, Cell
from pillsnap.run import GateRun

SAMPLES = 3
"""So many of a cell's worst samples are looked at."""


def diagnose_cells(run: GateRun, results: Sequence[CellResult]) -> dict[str, dict[str, Any]]:
    """Diagnose every cell of ONNX Runtime that breached by what its model answers, or all of them
    if the options say so. Nothing that goes wrong here leaves this function but as a note.

    Returns:
        What `diagnose` gives, by cell id.
    """
    found: dict[str, dict[str, Any]] = {}
    with FreshExports(run.config) as exports:
        for result in results:
            if _is_wanted(run, result):
                try:
                    folder = run.config.out_dir / "repro" / result.cell.id
                    found[result.cell.id] = diagnose(_subject(run, result), exports, folder)
                except Exception as error:  # a diagnosis must not cost the run its report
                    found[result.cell.id] = _nothing(problem_of(error))
        for pair in _pairs(results):
            parts = [found[each.cell.id] for each in pair if each.cell.id in found]
            if parts:
                try:
                    budget = _pipeline_budget(run, pair, exports).as_dict()
                except Exception as error:
                    for part in parts:
                        part["problems"].append(f"pipeline: {problem_of(error)}")
                else:
                    for part in parts:
                        part["pipeline"] = budget
    return found


def _is_wanted(run: GateRun, result: CellResult) -> bool:
    if not _can_run(result):
        return False
    breached = result.verdict.name == "breach" and (
        not result.verdict.breaches or concerns_outputs(result.verdict.breaches)
    )
    return breached or run.selection.diagnose


def _can_run(result: CellResult) -> bool:
    # Engines tensorrt and onnx are both sessions of ONNX Runtime.
    return result.execution is not None and _model_of(result) is not None


def _model_of(result: CellResult) -> Path | None:
    """The file that the cell's candidate was; None where none was opened."""
    paths = (outcome.candidate.get("path") for outcome in result.outcomes)
    return next((Path(path) for path in paths if path), None)


def _subject(run: GateRun, result: CellResult) -> Subject:
    model = _model_of(result)
    assert model is not None  # by _can_run
    reference = run.reference(result.cell).reference
    data = run.plan.data(result.cell.stage)
    names = result.worst[:SAMPLES] or [sample.id for sample in data[:SAMPLES]]
    by_id = {sample.id: sample for sample in data if sample.id in names}
    return make_subject(
        run.config,
        result.cell,
        model,
        [(name, read_image(by_id[name].path)) for name in names],
        transform=reference.transform,
        reference=reference.engine.run,
        threads=run.threads,
    )


def _pairs(results: Sequence[CellResult]) -> Iterator[tuple[CellResult, CellResult]]:
    """Results of a detector and a classifier that were asked for alike."""

    def rest(result: CellResult) -> Cell:
        return replace(result.cell, stage="")

    for _, group in groupby(sorted(filter(_can_run, results), key=rest), key=rest):
        by_stage = {result.cell.stage: result for result in group}
        if len(by_stage) == len(STAGES):
            yield by_stage["detection"], by_stage["classification"]


def _pipeline_budget(
    run: GateRun, pair: tuple[CellResult, CellResult], exports: FreshExports
) -> Budget:
    detector, classifier = (_subject(run, result) for result in pair)
    candidate = read_with_weights(detector.model)
    healthy = read_onnx(exports.like(detector.stage, candidate))
    return pipeline_budget(detector, classifier, candidate, healthy)


def _nothing(problem: str) -> dict[str, Any]:
    empty = dict.fromkeys(("layers", "budget", "pipeline", "causes", "repro"))
    return {"samples": [], **empty, "problems": [problem], "seconds": 0.0}
