"""Collects what the items of `pytest -m proof` found, and shows the gate's own score."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.core.printable import printable
from pillsnap.proof.scores import build_report, write_report
from pillsnap.proof.table import render
from pillsnap.proof.trial import proven_stages

# Key of what an item adds to its user_properties: (KIND, plain builtins).
KINDS = TRIAL, HEALTHY, SMALLEST, LOCATED, STAGED, EXPLAINED, INAPPLICABLE = (
    "proof-trial",
    "proof-healthy",
    "proof-smallest",
    "proof-located",
    "proof-staged",
    "proof-explained",
    "proof-inapplicable",
)


class Scoreboard:
    """Registered on the controller only; says nothing where no item was of the proof."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for name, value in report.user_properties:
                if name in self._found:
                    self._found[name].append(value)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not any(self._found.values()):
            return
        found = (self._found[kind] for kind in KINDS)
        report = build_report(proven_stages(self._config), *found)
        self._lines = [
            printable(line) for line in (*render(report), *self._publish(report, session))
        ]

    def _publish(self, report: dict[str, Any], session: pytest.Session) -> Iterator[str]:
        """Write the report of a whole proof; a part must not replace one."""
        if not report["complete"]:
            yield "a part of the proof: no report was written"
            return
        try:
            path: Path = write_report(report, self._config)
        except PillsnapError as error:
            session.exitstatus = 3
            yield from str(error).splitlines()
        else:
            yield f"report: {path}"

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._lines:
            terminalreporter.section("pillsnap proof", sep="=")
            for line in self._lines:
                terminalreporter.write_line(line)
