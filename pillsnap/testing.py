"""The gate itself: one item per shard of a cell.

In a repository with tests of its own, one line in any test file collects it, beside
`-p pillsnap.plugin` in pytest's addopts (or `pytest_plugins = ["pillsnap.plugin"]`):

    from pillsnap.testing import test_equivalence

An item only judges what holds for each sample by itself. Tolerances are judged once, on the whole
cell, when all of its shards have reported.
"""

from __future__ import annotations

import pytest

from pillsnap.core.printable import printable
from pillsnap.plugin.hooks import GateItem

__all__ = ["test_equivalence"]


def test_equivalence(gate_item: GateItem) -> None:
    outcome = gate_item.run()
    if outcome.unreadable:
        reasons = "\n".join(outcome.unreadable.values())
        pytest.fail(f"{len(outcome.unreadable)} images cannot be read:\n{reasons}", pytrace=False)
    if outcome.non_finite:
        first = ", ".join(map(printable, outcome.non_finite[:5]))
        pytest.fail(
            f"the candidate's output is not finite for {len(outcome.non_finite)} samples: {first}",
            pytrace=False,
        )
