"""The gate itself: one item per shard of a cell.

In a repository with tests of its own, one line in any test file collects it, beside
`-p pillsnap.plugin` in pytest's addopts (or `pytest_plugins = ["pillsnap.plugin"]`):

    from pillsnap.testing import test_equivalence

An item only judges what holds for each sample by itself. Tolerances are judged once, on the whole
cell, when all of its shards have reported.
"""

from __future__ import annotations

from pillsnap.plugin.forgotten import require_plugin
from pillsnap.plugin.item import GateItem

require_plugin()

__all__ = ["test_equivalence"]


def test_equivalence(gate_item: GateItem) -> None:
    gate_item.check()
