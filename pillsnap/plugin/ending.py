"""The end of a session on the controller: cells judged, breaches logged, the exit code set."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pillsnap.compare.outcome import Outcome
from pillsnap.gate import journal
from pillsnap.gate.finish import Finished, finish
from pillsnap.plugin.options import repeat_command
from pillsnap.plugin.state import State
from pillsnap.plugin.verdicts import log_failure
from pillsnap.plugin.warnfilters import warnings_stay_warnings
from pillsnap.report.table import render

NOTHING = (
    "nothing was measured: no item of the gate was selected (look at -m, -k,",
    "--deselect, the paths given, and plugins that rename items)",
)


class Ending:
    """Around what all other plugins do at the end of a session: the run is judged before it, and
    its section is shown after it, the last thing on the screen."""

    def __init__(self, session: pytest.Session, state: State) -> None:
        self._session = session
        self._state = state
        self._finished: Finished | None = None
        self._lines: Sequence[str] = ()

    def __enter__(self) -> None:
        with warnings_stay_warnings():
            self._judge()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with warnings_stay_warnings():
            self._conclude(_exit_code(self._session, error))
        terminal = self._session.config.pluginmanager.get_plugin("terminalreporter")
        if self._lines and terminal is not None:
            terminal.section("pillsnap gate", sep="=")
            for line in self._lines:
                terminal.write_line(line)

    def _judge(self) -> None:
        """Judge the run, publish its report, set the exit code."""
        session, state = self._session, self._state
        ledger = state.ledger
        if session.exitstatus == pytest.ExitCode.USAGE_ERROR:
            return  # a wrong -m or -k, found after collection: nothing ran
        if ledger is None or not ledger.expected:
            if state.asked and session.exitstatus in (0, 5):
                session.exitstatus = 1  # a gate that measured nothing has not passed
                self._lines = NOTHING
            return
        markers = session.config.option.markexpr
        command = repeat_command(
            state.run.selection, markers, state.run.threads, state.run.config.source
        )
        self._finished = finished = finish(
            state.run,
            ledger,
            pytest_code=int(session.exitstatus),
            asked=state.asked,
            command=command,
            started=state.started,
            tag=state.tag,
            checkout=state.checkout,
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

    def _conclude(self, exit_code: int) -> None:
        """Have the report say what the process ends with, should others have changed it."""
        if self._finished is None:
            return
        finished = self._finished.ending_with(exit_code, self._state.run.config)
        path = None if finished.path is None else str(finished.path)
        self._lines = render(finished.report, path, finished.problem)


def _exit_code(session: pytest.Session, error: BaseException | None) -> int:
    """What the process will end with after a hook of another plugin has ended with this error."""
    if isinstance(error, pytest.exit.Exception) and error.returncode is not None:
        return error.returncode
    if error is not None and not isinstance(error, pytest.exit.Exception):
        return 1  # Python's own after a traceback
    return int(session.exitstatus)


def _failed(outcome: Outcome) -> bool:
    return bool(outcome.failure or outcome.unreadable or outcome.non_finite)
