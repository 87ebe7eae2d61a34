"""A run of the gate, seen from one process: which shards there are, and how one is run.

Collection asks for shards (names and labels only: no torch, no hardware); a test item runs one.
What the controller must know of it comes back as plain builtins, since xdist carries nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pillsnap.compare import Compared, ShapeMismatch, compare_samples
from pillsnap.config import Config
from pillsnap.datasets import Sample, read_samples
from pillsnap.engines import Engine, Reference, Request, backend
from pillsnap.errors import DataError, EngineMissing, MissingCheckpoint, PillsnapError
from pillsnap.matrix import MODES, Cell, Shard, expand_cells, split_cell, whole_batches
from pillsnap.records import write_records
from pillsnap.samples import select

FailureKind = Literal["skipped", "breach", "unmeasured"]


@dataclass(frozen=True)
class Selection:
    """What the options of a run ask for; the modes come from pytest's markers.

    Attributes:
        gate_strict: the sample must also certify the tolerances.
    """

    stages: tuple[str, ...] = ("detection", "classification")
    engines: tuple[str, ...] = ("onnx",)
    providers: tuple[str, ...] = ("auto",)
    precisions: tuple[str, ...] = ("fp32",)
    candidates: Mapping[str, Path] = field(default_factory=dict)
    fresh_export: bool = False
    gate_strict: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one shard's run yields. `as_dict` is what travels to the controller.

    Attributes:
        shard: id of the shard.
        failure: why there are no records: (kind, message).
        file, sha256: the records on disk.
        unreadable: reason by sample id.
        non_finite: ids of samples for which the candidate's output is not finite.
        reference, candidate: what the engines say of themselves.
        transform, strides: the preprocessing in force and the detector's strides.
        seconds: wall time, opening the models included.
    """

    shard: str
    failure: tuple[FailureKind, str] | None = None
    file: str | None = None
    sha256: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    non_finite: list[str] = field(default_factory=list)
    reference: dict[str, Any] = field(default_factory=dict)
    candidate: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] = field(default_factory=dict)
    strides: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class GateRun:
    """One process's view of a run: samples and opened models are kept for the next shard.

    Args:
        config: the whole configuration.
        selection: what to compare with what.
        threads: intra-op threads of every engine in this process.
        run_dir: this run's own folder; the same for every worker.
    """

    def __init__(
        self, config: Config, selection: Selection, *, threads: int, run_dir: Path
    ) -> None:
        self.config = config
        self.selection = selection
        self.threads = threads
        self.run_dir = run_dir
        self._data: dict[str, list[Sample]] = {}
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        self._references: dict[tuple[str, str], Reference] = {}
        self._candidate: tuple[Cell, Engine] | None = None

    @property
    def shard_size(self) -> int:
        compare = self.config.compare
        return whole_batches(compare.shard_size, compare.batch_size)

    def cells(self) -> list[Cell]:
        """Every cell of the selection, in every mode."""
        chosen = self.selection
        return expand_cells(
            stages=chosen.stages,
            engines=chosen.engines,
            providers=chosen.providers,
            precisions=chosen.precisions,
            modes=MODES,
        )

    def shards(self) -> list[Shard]:
        """Every shard of every cell; reads names and labels only."""
        return [
            shard
            for cell in self.cells()
            for shard in split_cell(cell, self._count(cell), self.shard_size)
        ]

    def _count(self, cell: Cell) -> int:
        try:
            return len(self.samples(cell))
        except DataError:
            return 0  # the cell's one shard says why when it runs

    def samples(self, cell: Cell) -> list[Sample]:
        """The cell's samples in the order of their ids; raises DataError."""
        key = (cell.stage, cell.mode)
        if key not in self._samples:
            if cell.stage not in self._data:  # every mode draws from the same data
                self._data[cell.stage] = read_samples(self.config, cell.stage)
            self._samples[key] = select(self._data[cell.stage], self.config.compare, cell.mode)
        return self._samples[key]

    def run(self, shard: Shard) -> Outcome:
        """Run one shard and write its records; a problem comes back as the outcome's failure."""
        started = time.perf_counter()
        try:
            outcome = self._run(shard)
        except (MissingCheckpoint, EngineMissing) as error:
            outcome = Outcome(shard.id, ("skipped", str(error)))
        except ShapeMismatch as error:
            outcome = Outcome(shard.id, ("breach", str(error)))
        except PillsnapError as error:
            outcome = Outcome(shard.id, ("unmeasured", str(error)))
        return replace(outcome, seconds=time.perf_counter() - started)

    def _run(self, shard: Shard) -> Outcome:
        cell = shard.cell
        reference = self._reference(cell)
        samples = self.samples(cell)
        start, end = shard.bounds(len(samples), self.shard_size)
        candidate = self._open_candidate(cell)
        compared = compare_samples(
            samples[start:end],
            reference,
            candidate,
            nms=self.config.nms,
            batch_size=self.config.compare.batch_size,
        )
        file, digest = self._write(shard, compared)
        return Outcome(
            shard.id,
            file=file,
            sha256=digest,
            unreadable=compared.unreadable,
            non_finite=compared.non_finite,
            reference=reference.engine.info,
            candidate=candidate.info,
            transform=asdict(reference.transform),
            strides=list(reference.strides),
        )

    def _write(self, shard: Shard, compared: Compared) -> tuple[str, str] | tuple[None, None]:
        if compared.columns is None:
            return None, None
        path = self.run_dir / "records" / f"{shard.id}.npz"
        return str(path), write_records(path, compared.columns)

    def _request(self, cell: Cell) -> Request:
        return Request(
            config=self.config,
            cell=cell,
            threads=self.threads,
            run_dir=self.run_dir,
            candidate=self.selection.candidates.get(cell.stage),
            fresh_export=self.selection.fresh_export,
        )

    def _reference(self, cell: Cell) -> Reference:
        key = (cell.stage, cell.engine)
        if key not in self._references:
            self._references[key] = backend(cell.engine).open_reference(self._request(cell))
        return self._references[key]

    def _open_candidate(self, cell: Cell) -> Engine:
        # One at a time: consecutive shards are of one cell, and models are large.
        if self._candidate is None or self._candidate[0] != cell:
            self._candidate = None
            opened = backend(cell.engine).open_candidate(self._request(cell))
            self._candidate = (cell, opened)
        return self._candidate[1]
