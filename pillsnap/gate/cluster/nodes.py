"""What a cluster's nodes have, what a cell asks of them, and how they differ from the driver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pillsnap.config.cells import Cell
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.engines import find_entry
from pillsnap.gate.cluster.scheduling import Lane


@dataclass(frozen=True)
class Node:
    """A node that is alive.

    Attributes:
        id: Ray's.
        cpus, gpus: that Ray may give away, busy ones included.
    """

    id: str
    name: str
    cpus: int
    gpus: int

    def seats(self, threads: int, lanes: Iterable[Lane]) -> dict[Lane, int]:
        """How many workers of each lane find a place, each with a CPU for every thread; GPUs, one
        each, are dealt out first."""
        wanted, most = set(lanes), self.cpus // threads
        gpu = min(self.gpus, most) if "gpu" in wanted else 0
        return {"gpu": gpu, "cpu": most - gpu if "cpu" in wanted else 0}

    def serves(self, lane: Lane, threads: int) -> bool:
        return self.seats(threads, (lane,))[lane] > 0

    def in_words(self) -> str:
        return f"{self.name}: {_count(self.cpus, 'CPU')}, {_count(self.gpus, 'GPU')}"


def lane_of(cell: Cell, config: Config, selection: Selection, *, has_gpus: bool) -> Lane:
    """The lane of a cell: whether its candidate, or the reference, is to run on a GPU. What may
    fall back does so where the cluster has none, and then everywhere.

    Args:
        has_gpus: whether any node has one.
    """
    entry = find_entry(cell.engine)
    on_torch = selection.reference is None and entry.reference is None
    if on_torch and config.compare.reference_device == "cuda":
        return "gpu"
    if cell.provider not in entry.gpu or (cell.provider == "auto" and not has_gpus):
        return "cpu"
    return "gpu"


def cannot_serve(
    cell: Cell, lane: Lane, threads: int, nodes: Sequence[Node], unfit: Mapping[str, str]
) -> PillsnapError:
    """What to say of a cell that no node can run.

    Args:
        unfit: why a node is not used, by its id.
    """
    has = [
        f"{node.in_words()}{f' (not used: {unfit[node.id]})' if node.id in unfit else ''}"
        for node in nodes
    ]
    asked = _count(threads, "CPU") + (" and 1 GPU" if lane == "gpu" else "")
    return PillsnapError(
        "no node of the Ray cluster can serve this cell",
        where=cell.id,
        got="; ".join(has) or "no node is alive",
        expected=f"a node with {asked} for each worker",
        hint="add such a node"
        + (", or leave the cell out" if lane == "gpu" else ", or lower --threads"),
    )


def differences(driver: Mapping[str, Any], node: Mapping[str, Any]) -> list[str]:
    """In words, what a node runs that the driver does not: Python, packages, pillsnap's code."""
    found = []
    if node["python"] != driver["python"]:
        found.append(f"Python {node['python']} (driver {driver['python']})")
    for name, version in driver["packages"].items():
        there = node["packages"].get(name)
        if there != version:
            found.append(f"{name} {there or 'none'} (driver {version or 'none'})")
    if node["code"] != driver["code"]:
        found.append(f"pillsnap's code {node['code'][:12]} (driver {driver['code'][:12]})")
    return found


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' if number > 1 else ''}"
