"""What the items of a session report, on its way into the ledger."""

from __future__ import annotations

import json

import pytest

from pillsnap.compare.outcome import Outcome
from pillsnap.core.errors import first_line
from pillsnap.gate.ledger import Ledger
from pillsnap.plugin.state import PROPERTY


class Reporter:
    """Feeds the ledger; registered on the controller only, once gate items are expected."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        shard = self._ledger.shard_of(report.nodeid)
        # A lost worker's report has when="???": that shard never reported.
        if shard is None or report.when not in ("setup", "call", "teardown"):
            return
        found = [value for name, value in report.user_properties if name == PROPERTY]
        for value in found:
            self._ledger.add(json.loads(str(value)))  # Outcome.as_json, by GateItem.run
        if report.skipped and not found:  # by another plugin
            # A skip is a place and a reason.
            place = report.longrepr
            reason = first_line(place[2] if isinstance(place, tuple) else report.longreprtext)
            self._ledger.add(Outcome(shard.id, ("skipped", reason)).as_dict())
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = report.longreprtext if crash is None else crash.message
            self._ledger.add_failure(shard, first_line(message))
