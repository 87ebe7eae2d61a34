"""What is found out of a run's cells once its verdicts are published: nothing changes one then."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from dataclasses import replace

from pillsnap.compare.result import CellResult
from pillsnap.core.logrecords import open_log
from pillsnap.export.quantize import Tell
from pillsnap.gate.diagnosing import diagnose_cells
from pillsnap.gate.run import GateRun
from pillsnap.gate.sensitivity import analyse_cells
from pillsnap.report import RunFacts

log = open_log(__name__)


def look_further(
    run: GateRun, results: Sequence[CellResult], facts: RunFacts, tell: Tell
) -> RunFacts:
    """A run's facts with what analyse_cells and diagnose_cells find; where either is interrupted or
    terminated, with what was found before."""
    usual = signal.getsignal(signal.SIGTERM)
    heard = usual == signal.SIG_DFL and threading.current_thread() is threading.main_thread()
    if heard:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    what = "search for layers to keep in float"
    try:
        if run.selection.sensitivity:
            facts = replace(facts, sensitivities=analyse_cells(run, results, tell))
        what = "diagnosis"
        facts = replace(facts, diagnoses=diagnose_cells(run, results))
    except KeyboardInterrupt:
        log.warning("the %s was broken off: report and exit code stand without it", what)
    finally:
        if heard:
            signal.signal(signal.SIGTERM, usual)
    return facts
