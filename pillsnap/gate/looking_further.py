"""What is found out of a run's cells once its verdicts are published: nothing changes one then."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pillsnap.compare.result import CellResult
from pillsnap.export.quantize import Tell
from pillsnap.gate.diagnosing import diagnose_cells, is_wanted, no_diagnosis
from pillsnap.gate.run import GateRun
from pillsnap.gate.sensitivity import analyse_cells, no_sensitivity, sensitive_cells
from pillsnap.report import RunFacts

# What a cell says of what it lacks then.
_INTERRUPTED = "interrupted before it was finished"


def look_further(
    run: GateRun, results: Sequence[CellResult], facts: RunFacts, tell: Tell
) -> tuple[RunFacts, list[str]]:
    """A run's facts with what analyse_cells and diagnose_cells find; where either is interrupted or
    terminated, with what was found before, and cells that say so of the rest. The run is not
    complete then if an option had asked for what is lacking.

    Returns:
        the facts, and what was broken off, in words.
    """
    usual = signal.getsignal(signal.SIGTERM)
    heard = usual == signal.SIG_DFL and threading.current_thread() is threading.main_thread()
    if heard:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen, broken_off = run.selection, []
    layers: dict[str, dict[str, Any]] = {}
    diagnoses: dict[str, dict[str, Any]] = {}
    try:
        if chosen.sensitivity:
            layers.update(analyse_cells(run, results, tell))
        diagnoses = diagnose_cells(run, results)
    except KeyboardInterrupt:
        wanted = sensitive_cells(results) if chosen.sensitivity else []
        lacking = [each.id for each in wanted if each.id not in layers]
        layers |= {name: no_sensitivity(_INTERRUPTED) for name in lacking}
        undiagnosed = [each.cell.id for each in results if is_wanted(run, each)]
        diagnoses = {name: no_diagnosis(_INTERRUPTED) for name in undiagnosed}
        broken_off += ["the search for layers to keep in float"] if lacking else []
        broken_off += ["the diagnosis"] if undiagnosed else []
        asked = bool(lacking) or chosen.diagnose
        facts = replace(facts, complete=not asked)
    finally:
        if heard:
            signal.signal(signal.SIGTERM, usual)
    found = replace(facts, sensitivities=layers, diagnoses=diagnoses)
    return found, [f"{what} was interrupted" for what in broken_off]
