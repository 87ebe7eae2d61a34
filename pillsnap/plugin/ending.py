"""The end of a session on the controller: cells judged, breaches logged, the exit code set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest

from pillsnap.gate import journal
from pillsnap.gate.drawing import draw_page
from pillsnap.gate.finish import Finished, finish
from pillsnap.gate.run import GateRun
from pillsnap.plugin.collecting import PACKAGED_ITEM, finds_gate_items
from pillsnap.plugin.handing_on import hand_on
from pillsnap.plugin.repeating import repeat_command
from pillsnap.plugin.state import State
from pillsnap.plugin.verdicts import log_failure
from pillsnap.plugin.warnfilters import warnings_stay_warnings
from pillsnap.report.github import tell_github
from pillsnap.report.table import render

NOTHING = (
    "nothing was measured: no item of the gate was selected (look at -m, -k,",
    "--deselect, the paths given, names of test files, plugins that rename items)",
)
NO_ITEM = (
    "nothing was measured: no test file here has the item of the gate. Run",
    "    pillsnap gate -m smoke",
    "which needs none, or have a test file of yours collect it:",
    "    from pillsnap.testing import test_equivalence",
)


@contextmanager
def ending(session: pytest.Session, state: State) -> Iterator[None]:
    """Around what all other plugins do at the end of a session: the run is judged before it, and
    its section is shown after it, the last thing on the screen."""
    with warnings_stay_warnings():
        judged = _judge(session, state)
    exit_code = 1  # Python's own after a traceback of another plugin
    try:
        yield
        exit_code = int(session.exitstatus)
    except pytest.exit.Exception as error:
        given = error.returncode
        exit_code = int(session.exitstatus) if given is None else given
        raise
    finally:
        with warnings_stay_warnings():
            lines = (
                _conclude(judged, exit_code, state.run, session.config)
                if isinstance(judged, Finished)
                else judged
            )
        terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        if lines and terminal is not None:
            terminal.section("pillsnap gate", sep="=")
            for line in lines:
                terminal.write_line(line)


def _judge(session: pytest.Session, state: State) -> Finished | Sequence[str]:
    """Judge the run, publish its report, set the exit code; of a run that measured nothing, lines
    that say so."""
    ledger = state.ledger
    if session.exitstatus == pytest.ExitCode.USAGE_ERROR:
        return ()  # a wrong -m or -k, found after collection: nothing ran
    if ledger is None or not ledger.expected:
        if state.asked and session.exitstatus in (0, 5):
            session.exitstatus = 1  # a gate that measured nothing has not passed
            return NOTHING if finds_gate_items(session.config) else NO_ITEM
        return ()
    command = repeat_command(
        state.run.selection,
        session.config.option.markexpr,
        state.run.threads,
        state.run.config.source,
        "pillsnap gate" if PACKAGED_ITEM in session.config.args else "pytest",
    )
    finished = finish(
        state.run,
        ledger,
        pytest_code=int(session.exitstatus),
        asked=state.asked,
        command=command,
        started=state.started,
        load=state.load,
        tag=state.tag,
        checkout=state.checkout,
        stopped=bool(session.shouldfail),
        cluster=None if state.cluster is None else state.cluster.as_dict(),
        tell=partial(_tell, session),
    )
    for result, cell in zip(finished.results, finished.report["cells"], strict=True):
        # An item that failed for itself has its line already.
        if result.verdict.failed and not any(
            each.failure or each.unreadable or each.non_finite for each in result.outcomes
        ):
            log_failure(session, result, cell)
    session.exitstatus = finished.exit_code
    if finished.exit_code in (0, 1) and finished.report["gate"]["complete"]:
        journal.finish(state.run.run_dir)
    settings = state.run.config
    journal.prune(
        settings.exp_dir / "runs", settings.compare.runs_kept, settings.out_dir / "reports"
    )
    return finished


def _tell(session: pytest.Session, text: str) -> None:
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        # A line of dots may be open.
        terminal.write(f"\n{text}\n", flush=True)


def _conclude(finished: Finished, exit_code: int, run: GateRun, config: pytest.Config) -> list[str]:
    """Have the report say what the process ends with, should others have changed it, draw its page
    and hand it on; lines that show it."""
    finished = finished.ending_with(exit_code, run.config)
    report, path = finished.report, finished.path
    page, lost = draw_page(finished, run.run_dir, wanted=not config.option.no_html)
    lines = render(
        report,
        path,
        finished.problem,
        [*finished.warnings, *([lost] if lost is not None else [])],
        page,
    )
    lines += tell_github(report, os.environ)
    return lines if path is None else [*lines, *hand_on(report, path, config)]
