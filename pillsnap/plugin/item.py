"""What a test item of the gate does."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pillsnap.compare.outcome import Outcome
from pillsnap.config.cells import Shard
from pillsnap.core.printable import printable
from pillsnap.gate.cluster.controller import ClusterRun
from pillsnap.gate.run import GateRun
from pillsnap.plugin.state import PROPERTY
from pillsnap.plugin.warnfilters import warnings_stay_warnings


@dataclass(frozen=True)
class GateItem:
    """A shard bound to the test item that runs it."""

    shard: Shard
    runner: GateRun | ClusterRun
    item: pytest.Item

    def run(self) -> Outcome:
        """Run the shard, hand the outcome to the controller; skip or fail when there is none."""
        with warnings_stay_warnings():
            outcome = self.runner.run(self.shard)
        # Appended, not recorded: record_property warns under --junitxml.
        self.item.user_properties.append((PROPERTY, outcome.as_json()))
        if outcome.failure is not None:
            kind, message = outcome.failure
            if kind == "skipped":
                pytest.skip(message)
            pytest.fail(message, pytrace=False)
        return outcome

    def check(self) -> None:
        """Run the shard; fail where an image cannot be read or an answer is not finite."""
        outcome = self.run()
        if outcome.unreadable:
            reasons = "\n".join(outcome.unreadable.values())
            pytest.fail(
                f"{len(outcome.unreadable)} images cannot be read:\n{reasons}", pytrace=False
            )
        if outcome.non_finite:
            first = ", ".join(map(printable, outcome.non_finite[:5]))
            pytest.fail(
                f"the candidate's output is not finite for {len(outcome.non_finite)} samples: "
                f"{first}",
                pytrace=False,
            )
