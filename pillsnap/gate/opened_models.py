"""Both sides of a run's cells: opened when first asked for, and kept for the next shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pillsnap.compare.loading import Load
from pillsnap.compare.reference import CachedReference
from pillsnap.compare.tasks import task_of
from pillsnap.config.cells import Cell
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.arraycache import ArrayCache
from pillsnap.core.errors import WrongCandidate
from pillsnap.engines import Request, find_entry
from pillsnap.engines.timing import Stopwatch
from pillsnap.engines.torch.engine import open_reference
from pillsnap.export import Exported
from pillsnap.gate.bundle import Bundle
from pillsnap.gate.candidates import choose_file, open_candidate
from pillsnap.gate.conversion import Conversion
from pillsnap.gate.losses import Labelled

FindModel = Callable[[Cell], Exported]


def model_of(cell: Cell) -> Cell:
    """What is the same for all cells of one opened candidate: which samples it answers changes
    nothing, unless what is not verified calibrates it."""
    return replace(cell, mode=cell.mode if cell.precision == "int8" else "", hard=False)


@dataclass(eq=False, kw_only=True)
class Sides:
    """References and candidates of one process's cells.

    Attributes:
        config, selection, threads, run_dir, load: the run's.
        bundle: answers in place of a reference; None opens the trained model.
        verified: paths of the images that a cell verifies, hard ones included.
        find_model: gives the file of a cell in place of Sides.model.
        labelled: see Plan.labelled.
    """

    config: Config
    selection: Selection
    threads: int
    run_dir: Path
    load: Load
    bundle: Bundle | None
    verified: Callable[[Cell], Iterable[Path]]
    labelled: Labelled
    find_model: FindModel | None = None

    def __post_init__(self) -> None:
        limit = int(self.config.compare.reference_cache_gib * 2**30)
        folder = self.config.exp_dir / "cache" / "reference"
        wanted = self.selection.reference_cache and limit
        self._cache = ArrayCache(folder, limit) if wanted else None
        self._references: dict[tuple[str, ...], CachedReference] = {}
        self._candidate: tuple[Cell, Stopwatch] | None = None

    def reference(self, cell: Cell) -> CachedReference:
        """The reference of a cell, opened when it is first asked for."""
        # A bundle holds what each mode verifies; a trained model answers for all of them.
        key = (cell.stage, cell.engine if self.bundle is None else cell.mode)
        if key not in self._references:
            self._references[key] = self._open_reference(cell)
        return self._references[key]

    def reference_for(self, cell: Cell, layout: Mapping[str, Any] | None) -> CachedReference:
        """The reference of a cell whose candidate is of a layout: the same head answers on both
        sides. WrongCandidate where a bundle has no answers of it."""
        if layout is None or layout["compared"] != "one-to-one":
            return self.reference(cell)
        if self.bundle is not None:
            raise WrongCandidate(
                "the candidate gives the boxes of a one-to-one head, a bundle those of the other",
                where=cell.id,
                got=f"layout {layout['name']}",
                hint="verify it beside its checkpoint, without --reference",
            )
        key = (cell.stage, cell.engine, layout["compared"])
        if key not in self._references:
            self._references[key] = self._open_reference(cell, one_to_one=True)
        return self._references[key]

    def candidate(self, cell: Cell) -> Stopwatch:
        """The candidate of a cell. One at a time: consecutive shards are of one cell, and models
        are large."""
        model = model_of(cell)
        if self._candidate is None or self._candidate[0] != model:
            self._candidate = None
            choose = partial(self.find_model or self.model, cell)
            layout = self.selection.layouts.get(cell.stage)
            reference = self.reference(cell).reference
            opened = open_candidate(self._request(cell), choose, reference, layout)
            self._candidate = (model, opened)
        return self._candidate[1]

    def model(self, cell: Cell) -> Exported:
        """The file of a cell: named, or exported and converted once a run; errors are
        choose_file's."""
        reference = self.reference(cell)
        return choose_file(
            self._request(cell),
            reference.reference,
            named=self.selection.candidates.get(cell.stage),
            fresh=self.selection.fresh_export,
            run_dir=self.run_dir,
            convert=self.conversion(cell, reference),
        )

    def close(self) -> None:
        """Let go of the models; what is asked for later is opened again."""
        self._references.clear()
        self._candidate = None

    def _open_reference(self, cell: Cell, *, one_to_one: bool = False) -> CachedReference:
        if self.bundle is not None:
            return self.bundle.reference(cell.stage, cell.mode)
        entry = find_entry(cell.engine)
        entry.require()
        request = replace(self._request(cell), one_to_one=one_to_one)
        opened = (entry.reference or open_reference)(request)
        return CachedReference(opened, self._cache, task_of(cell.stage).is_output)

    def _request(self, cell: Cell) -> Request:
        return Request(self.config, cell, self.threads, self._cache)

    def conversion(self, cell: Cell, reference: CachedReference) -> Conversion:
        """How a cell's file of lower precision is made."""
        population = replace(cell, hard=False)
        return Conversion(
            self.config,
            population,
            self.selection.int8_method or self.config.export.quantize.int8_method,
            reference,
            lambda: self.verified(population),
            self.labelled,
            self.load,
            self.threads,
            self.run_dir,
        )
