"""The end of a session on the controller: cells judged, breaches logged, the exit code set."""

from __future__ import annotations

import pytest

from pillsnap.compare.outcome import Outcome
from pillsnap.gate import journal
from pillsnap.gate.finish import finish
from pillsnap.plugin.options import repeat_command
from pillsnap.plugin.state import State
from pillsnap.plugin.verdicts import log_failure
from pillsnap.report.table import render

NOTHING = (
    "nothing was measured: no item of the gate was selected (look at -m, -k,",
    "--deselect, the paths given, and plugins that rename items)",
)


def finish_session(session: pytest.Session, state: State) -> list[str]:
    """Judge the run and publish its report; returns what the terminal shows of it."""
    ledger = state.ledger
    if session.exitstatus == pytest.ExitCode.USAGE_ERROR:
        return []  # a wrong -m or -k, found after collection: nothing ran
    if ledger is None or not ledger.expected:
        if state.asked and session.exitstatus in (0, 5):
            session.exitstatus = 1  # a gate that measured nothing has not passed
            return list(NOTHING)
        return []
    markers = session.config.option.markexpr
    command = repeat_command(
        state.run.selection, markers, state.run.threads, state.run.config.source
    )
    finished = finish(
        state.run,
        ledger,
        pytest_code=int(session.exitstatus),
        asked=state.asked,
        command=command,
        started=state.started,
        tag=state.tag,
        stopped=bool(session.shouldfail),
    )
    for result, cell in zip(finished.results, finished.report["cells"], strict=True):
        # An item that failed for itself has its line already.
        if result.verdict.failed and not any(_failed(outcome) for outcome in result.outcomes):
            log_failure(session, result, cell)
    session.exitstatus = finished.exit_code
    if finished.exit_code in (0, 1) and finished.report["gate"]["complete"]:
        journal.finish(state.run.run_dir)
    settings = state.run.config
    journal.prune(
        settings.exp_dir / "runs", settings.compare.runs_kept, settings.out_dir / "reports"
    )
    path = None if finished.path is None else str(finished.path)
    return render(finished.report, path, finished.problem, finished.warnings)


def _failed(outcome: Outcome) -> bool:
    return bool(outcome.failure or outcome.unreadable or outcome.non_finite)
