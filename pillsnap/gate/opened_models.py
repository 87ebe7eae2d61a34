"""Both sides of a run's cells: opened when first asked for, and kept for the next shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from pillsnap.compare.loading import Load
from pillsnap.compare.reference import CachedReference
from pillsnap.config.cells import Cell
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.arraycache import ArrayCache
from pillsnap.engines import Request, find_entry
from pillsnap.engines.timing import Stopwatch
from pillsnap.engines.torch.engine import open_reference
from pillsnap.gate.bundle import Bundle
from pillsnap.gate.candidates import choose_file, open_candidate
from pillsnap.gate.conversion import Conversion
from pillsnap.tasks import task_of


class Sides:
    """References and candidates of one process's cells.

    Args:
        config, selection, threads, run_dir, load: the run's.
        bundle: answers in place of a reference; None opens the trained model.
        verified: paths of the images that a cell verifies, hard ones included.
    """

    def __init__(
        self,
        config: Config,
        selection: Selection,
        *,
        threads: int,
        run_dir: Path,
        load: Load,
        bundle: Bundle | None,
        verified: Callable[[Cell], Iterable[Path]],
    ) -> None:
        self._config = config
        self._selection = selection
        self._threads = threads
        self._run_dir = run_dir
        self._load = load
        self._bundle = bundle
        self._verified = verified
        limit = int(config.compare.reference_cache_gib * 2**30)
        wanted = selection.reference_cache and limit
        self._cache = ArrayCache(config.exp_dir / "cache" / "reference", limit) if wanted else None
        self._references: dict[tuple[str, str], CachedReference] = {}
        self._candidate: tuple[Cell, Stopwatch] | None = None

    def reference(self, cell: Cell) -> CachedReference:
        """The reference of a cell."""
        # A bundle holds what each mode verifies; a trained model answers for all of them.
        key = (cell.stage, cell.engine if self._bundle is None else cell.mode)
        if key not in self._references:
            self._references[key] = self._open_reference(cell)
        return self._references[key]

    def candidate(self, cell: Cell) -> Stopwatch:
        """The candidate of a cell. One at a time: consecutive shards are of one cell, and models
        are large."""
        # Which samples it answers changes nothing, unless what is not verified calibrates it.
        mode = cell.mode if cell.precision == "int8" else ""
        model = replace(cell, mode=mode, hard=False)
        if self._candidate is None or self._candidate[0] != model:
            self._candidate = None
            reference = self.reference(cell)
            request = self._request(cell)
            choose = partial(
                choose_file,
                request,
                reference.reference,
                named=self._selection.candidates.get(cell.stage),
                fresh=self._selection.fresh_export,
                run_dir=self._run_dir,
                convert=self._conversion(cell, reference),
            )
            self._candidate = (model, open_candidate(request, choose))
        return self._candidate[1]

    def close(self) -> None:
        """Let go of the models; what is asked for later is opened again."""
        self._references.clear()
        self._candidate = None

    def _open_reference(self, cell: Cell) -> CachedReference:
        if self._bundle is not None:
            return self._bundle.reference(cell.stage, cell.mode)
        entry = find_entry(cell.engine)
        entry.require()
        opened = (entry.reference or open_reference)(self._request(cell))
        return CachedReference(opened, self._cache, task_of(cell.stage).is_output)

    def _request(self, cell: Cell) -> Request:
        return Request(self._config, cell, self._threads, self._cache)

    def _conversion(self, cell: Cell, reference: CachedReference) -> Conversion:
        population = replace(cell, hard=False)
        return Conversion(
            self._config,
            population,
            self._selection.int8_method or self._config.export.quantize.int8_method,
            reference,
            lambda: self._verified(population),
            self._load,
            self._threads,
            self._run_dir,
        )
