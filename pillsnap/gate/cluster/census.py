"""What the report says of a cluster: its nodes, what ran where, and what was lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pillsnap.compare.outcome import Outcome
from pillsnap.config.cells import Cell
from pillsnap.core.errors import first_line
from pillsnap.gate.cluster.nodes import Node, differences
from pillsnap.gate.cluster.worker import describe_machine

_EXECUTION = ("providers", "provider_options", "placement", "precision")


class Census:
    """The nodes that a run has met.

    Attributes:
        nodes: all of them, those that are gone too.
        unfit: why a node is not used, by its id.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._driver = describe_machine()
        self._known: dict[str, Node] = {}
        self._alive: list[Node] = []
        self.unfit: dict[str, str] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._cells: dict[str, dict[str, dict[str, Any]]] = {}
        self._scratch: dict[str, str] = {}
        self.see(nodes)

    @property
    def nodes(self) -> Iterable[Node]:
        return self._known.values()

    def see(self, nodes: Sequence[Node]) -> Sequence[Node]:
        """Note which nodes are alive."""
        self._alive = list(nodes)
        self._known |= {node.id: self._known.get(node.id, node) for node in nodes}
        return nodes

    def alive(self) -> Sequence[Node]:
        return self._alive

    def name(self, node: str) -> str:
        return self._known[node].name

    def reason_of_loss(self, node: str, why: str) -> str:
        return why if any(each.id == node for each in self._alive) else "its node is gone"

    def leave_out(self, node: str, why: Exception | str) -> None:
        """Use a node no more; of an error the last line says what it was."""
        lines = [line.strip() for line in str(why).splitlines() if line.strip()]
        self.unfit[node] = first_line(lines[-1]) if lines else first_line(why)

    def describe(self, node: str, facts: dict[str, Any]) -> None:
        """Note what a worker says of its node (describe_machine)."""
        if self._facts.get(node, facts)["gpu"] is None:  # a worker for CPUs is shown none
            self._facts[node] = facts

    def note_scratch(self, node: str, folder: str | None) -> None:
        """Note that a node has files of the run in a folder of its own, if it has."""
        if folder is not None:
            self._scratch[node] = folder

    def scratch(self) -> list[tuple[str, str]]:
        """Nodes with a folder of their own, and the folder."""
        return list(self._scratch.items())

    def count(self, node: str, cell: Cell, outcome: Outcome) -> None:
        """Note that a node has run a shard of a cell."""
        cells = self._cells.setdefault(node, {})
        of_cell = cells.setdefault(cell.id, {"shards": 0, "execution": None})
        of_cell["shards"] += 1
        if of_cell["execution"] is None and "placement" in outcome.candidate:
            of_cell["execution"] = {key: outcome.candidate.get(key) for key in _EXECUTION}

    def as_dicts(self) -> Iterator[dict[str, Any]]:
        """The nodes, as the report has them."""
        alive = {node.id for node in self._alive}
        for node in self._known.values():
            facts, cells = self._facts.get(node.id), self._cells.get(node.id, {})
            yield {
                "name": node.name,
                "id": node.id,
                "cpus": node.cpus,
                "gpus": node.gpus,
                "lost": node.id not in alive,
                "unfit": self.unfit.get(node.id),
                "cpu": None if facts is None else facts["cpu"],
                "gpu": None if facts is None else facts["gpu"],
                "differences": [] if facts is None else differences(self._driver, facts),
                "shards": sum(cell["shards"] for cell in cells.values()),
                "cells": dict(sorted(cells.items())),
            }
