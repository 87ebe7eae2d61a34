"""The cells of a finished run that are diagnosed, and what the report says of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pillsnap.diagnose import FreshExports, diagnose, make_subject
from pillsnap.diagnose.subject import Subject
from pillsnap.errors import PillsnapError
from pillsnap.gate import concerns_outputs
from pillsnap.images import read_image
from pillsnap.ledger import CellResult
from pillsnap.run import GateRun

log = logging.getLogger(__name__)

SAMPLES = 3
"""So many of a cell's worst samples are looked at."""


def diagnose_cells(run: GateRun, results: Sequence[CellResult]) -> dict[str, dict[str, Any]]:
    """Diagnose every cell of ONNX Runtime that breached by what its model answers, or all of them
    if the options say so. Nothing that goes wrong here leaves this function but as a note.

    Returns:
        What `diagnose` gives, by cell id.
    """
    found: dict[str, dict[str, Any]] = {}
    chosen = [result for result in results if _is_wanted(run, result)]
    with ExitStack() as stack:
        exports = None
        for result in chosen:
            try:
                if exports is None:
                    exports = stack.enter_context(FreshExports(run.config))
                subject = _subject(run, result)
                folder = run.config.out_dir / "repro" / result.cell.id
                found[result.cell.id] = diagnose(subject, exports, folder)
            except PillsnapError as error:
                found[result.cell.id] = _nothing(error.what)
            except Exception as error:  # a diagnosis must not cost the run its report
                log.debug("diagnosis of %s", result.cell.id, exc_info=True)
                found[result.cell.id] = _nothing(f"{type(error).__name__}: {error}"[:300])
    return found


def _is_wanted(run: GateRun, result: CellResult) -> bool:
    if result.cell.engine != "onnx" or _model_of(result) is None:
        return False
    breached = result.verdict.name == "breach" and (
        not result.verdict.breaches or concerns_outputs(result.verdict.breaches)
    )
    return breached or run.selection.diagnose


def _model_of(result: CellResult) -> Path | None:
    """The file that the cell's candidate was; None where none was opened."""
    paths = (outcome.candidate.get("path") for outcome in result.outcomes)
    return next((Path(path) for path in paths if path), None)


def _subject(run: GateRun, result: CellResult) -> Subject:
    model = _model_of(result)
    assert model is not None  # by _is_wanted
    reference = run.reference(result.cell).reference
    data = run.data(result.cell.stage)
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


def _nothing(problem: str) -> dict[str, Any]:
    empty = dict.fromkeys(("layers", "budget", "causes", "repro"))
    return {"samples": [], **empty, "problems": [problem], "seconds": 0.0}
