"""A cell's verdict as a failed test: in the short summary, in --junitxml and in the count."""

from __future__ import annotations

from typing import Any

import pytest

from pillsnap.compare.result import CellResult
from pillsnap.core.printable import printable
from pillsnap.report.table import explain


class GateFailure(Exception):
    """Carries a verdict into pytest's summary."""


class VerdictReport(pytest.TestReport):
    """A cell's verdict as a failed test. It has no word while it is logged, for the progress line
    stands at 100 % by then, and gets one for the summary."""

    word = ""


def log_failure(session: pytest.Session, result: CellResult, cell: dict[str, Any]) -> None:
    """A breached cell appears as a failed test of its own."""
    reason = "\n".join(map(printable, result.verdict.reason.split("\n")))
    try:
        raise GateFailure("\n".join([reason, *explain(cell)]))
    except GateFailure as error:
        longrepr = pytest.ExceptionInfo.from_exception(error).getrepr(style="value")
    # What the short summary and --junitxml show, less the exception's name: lines are short.
    assert longrepr.reprcrash is not None  # an exception that was raised has a place
    longrepr.reprcrash.message = reason
    report = VerdictReport(
        nodeid=f"gate::{result.cell.id}",
        location=("gate", None, result.cell.id),
        keywords={},
        outcome="failed",
        longrepr=longrepr,
        when="call",
        duration=result.seconds,
    )
    session.testsfailed += 1
    session.config.hook.pytest_runtest_logreport(report=report)
    report.word = "FAILED"
