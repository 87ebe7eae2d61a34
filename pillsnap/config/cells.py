"""Cells of the gate (what is compared with what) and their shards: ids, expansion, choices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

Stage = Literal["detection", "classification"]
Mode = Literal["smoke", "coverage", "full"]
Provider = Literal["auto", "cpu", "cuda", "tensorrt", "gpu", "npu"]
Precision = Literal["fp32", "fp16", "int8"]

STAGES: tuple[str, ...] = get_args(Stage)
MODES: tuple[str, ...] = get_args(Mode)
PROVIDERS: tuple[str, ...] = get_args(Provider)
PRECISIONS: tuple[str, ...] = get_args(Precision)
DETECTION, CLASSIFICATION = STAGES


@dataclass(frozen=True, order=True)
class Cell:
    """One comparison: what was requested, never what was found, so that every worker agrees. A
    `hard` one is over samples that the reference is less and less sure of, not the population."""

    stage: str
    engine: str
    provider: str
    precision: str
    mode: str
    hard: bool = False

    @property
    def id(self) -> str:
        parts = (self.stage, self.engine, self.provider, self.precision, self.mode)
        return "-".join((*parts, "hard") if self.hard else parts)


@dataclass(frozen=True, order=True)
class Shard:
    """Part `index` (from 1) of `count` of a cell's samples: one test item."""

    cell: Cell
    index: int = 1
    count: int = 1

    @property
    def id(self) -> str:
        if self.count == 1:
            return self.cell.id
        return f"{self.cell.id}-s{self.index:03d}of{self.count:03d}"

    def bounds(self, samples: int, shard_size: int) -> tuple[int, int]:
        """Half-open range of this shard's samples among the cell's sorted samples."""
        start = (self.index - 1) * shard_size
        return start, min(start + shard_size, samples)


def expand_cells(
    *,
    stages: Iterable[str],
    engines: Mapping[str, Iterable[str]],
    precisions: Iterable[str],
    modes: Iterable[str],
    order: Sequence[str] = STAGES,
) -> list[Cell]:
    """Every combination once, stages in this order, so that a stage's model stays loaded; `engines`
    has the providers of each."""
    pairs = [(engine, each) for engine, providers in engines.items() for each in providers]
    cells = {
        Cell(stage, engine, provider, precision, mode)
        for stage, (engine, provider), precision, mode in product(stages, pairs, precisions, modes)
    }
    return sorted(cells, key=lambda cell: (order.index(cell.stage), cell))


def split_cell(cell: Cell, samples: int, shard_size: int) -> list[Shard]:
    """Cut a cell into shards. Without samples it keeps one, which says so when it runs."""
    count = max(1, -(-samples // shard_size))
    return [Shard(cell, index, count) for index in range(1, count + 1)]


def whole_batches(shard_size: int, batch_size: int) -> int:
    """The shard size rounded up to whole batches.

    Batches are cut by sample index; a batch cut in two by a shard's end could change the last bits
    of its outputs, and the figures would depend on the sharding.
    """
    return -(-shard_size // batch_size) * batch_size
