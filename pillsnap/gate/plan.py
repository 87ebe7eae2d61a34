"""What a run consists of: cells, their samples and shards.

Collection asks for all of it, so it reads names and labels only: no torch, no hardware.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pillsnap.compare.tasks import task_names, task_of
from pillsnap.config.cells import MODES, Cell, Shard, expand_cells, split_cell, whole_batches
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.errors import DataError
from pillsnap.data.categories import Categories
from pillsnap.data.datasets import Dataset, Sample, read_dataset
from pillsnap.data.sampling import hard_pool, select
from pillsnap.engines import find_entry
from pillsnap.engines.torch.checkpoints import checkpoint_paths, named_checkpoint
from pillsnap.gate.bundle import Bundle


class Plan:
    """The cells that a selection makes of a configuration; what is read is kept.

    Attributes:
        bundle: what stands for checkpoints and images, if the selection names one.
    """

    def __init__(self, config: Config, selection: Selection) -> None:
        self.bundle = None if selection.reference is None else Bundle(selection.reference)
        self._config = config
        self._selection = selection
        self._data: dict[str, Dataset] = {}
        self._samples: dict[tuple[str, str], list[Sample]] = {}

    @property
    def shard_size(self) -> int:
        compare = self._config.compare
        return whole_batches(compare.shard_size, compare.batch_size)

    def cells(self) -> list[Cell]:
        """Every cell of the selection, in every mode."""
        chosen = self._selection
        cells = expand_cells(
            stages=chosen.stages,
            engines={n: find_entry(n).providers_of(chosen.providers) for n in chosen.engines},
            precisions=chosen.precisions,
            modes=MODES,
            order=task_names(),
        )
        return [each for cell in cells for each in (cell, *self._hard_cell(cell))]

    def shards(self) -> list[Shard]:
        """Every shard of every cell; reads names and labels only."""
        return [
            shard
            for cell in self.cells()
            for shard in split_cell(cell, self._count(cell), self.shard_size)
        ]

    def asks_for(self, stage: str) -> bool:
        """Whether a gate that is asked for must measure a stage: one that an option names, or that
        has validation data, or a checkpoint that is there or named. One stage alone is fine."""
        data = task_of(stage).source.given(self._config)
        there = named_checkpoint(self._config, stage) is not None or any(
            path.exists() for path in checkpoint_paths(self._config, stage)
        )
        return stage in self._selection.named or data is not None or there

    def data(self, stage: str) -> list[Sample]:
        """All validation samples of a stage, which every mode draws from; raises DataError."""
        return self.dataset(stage).samples

    def dataset(self, stage: str) -> Dataset:
        """All validation data of a stage; raises DataError."""
        if stage not in self._data:
            self._data[stage] = read_dataset(self._config, task_of(stage).source)
        return self._data[stage]

    def data_sha256(self, stage: str) -> str | None:
        """SHA-256 over names and labels of all validation data of a stage, whatever the mode; None
        where they cannot be read."""
        digest = hashlib.sha256()
        try:
            for sample in self.data(stage):
                digest.update(repr((sample.id, sample.label, sample.boxes)).encode())
        except DataError:  # or a bundle stands for it
            return None
        return digest.hexdigest()

    def population(self, cell: Cell) -> list[Sample]:
        """What the samples of a cell were drawn from, as far as it is here."""
        return self.data(cell.stage) if self.bundle is None else self.samples(cell)

    def samples(self, cell: Cell) -> list[Sample]:
        """The samples of a cell that is not of hard ones, sorted by id; raises DataError."""
        key = (cell.stage, cell.mode)
        if key not in self._samples and self.bundle is not None:
            self._samples[key] = self.bundle.samples(*key)
        if key not in self._samples:
            self._samples[key] = select(self.data(cell.stage), self._config.compare, cell.mode)
        return self._samples[key]

    def in_classes(
        self, samples: Sequence[Sample], stage: str, class_names: Sequence[str]
    ) -> tuple[Sequence[Sample], list[str]]:
        """Samples whose boxes have the detector's classes, and what is to be said of that: which
        class a category is takes the names in the checkpoint, which collection does not open.

        Raises:
            DataError: categories and classes do not fit.
        """
        categories = self.categories(stage)
        if categories is None:
            return samples, []
        _, count = task_of(stage).model(self._config)
        classes, note = categories.resolve(class_names, count)
        found = []
        for sample in samples:
            boxes = (replace(box, class_id=classes[box.class_id]) for box in sample.boxes or ())
            found.append(replace(sample, boxes=tuple(boxes)))
        return found, [note] if note is not None else []

    def categories(self, stage: str) -> Categories | None:
        """Dataset.categories of a stage; a bundle's boxes have their classes already."""
        return None if self.bundle is not None else self.dataset(stage).categories

    def hard_pool(self, stage: str) -> list[Sample]:
        """What the hard samples of a stage are found among; raises DataError."""
        return hard_pool(self.data(stage), self._config.compare)

    def of_shard(self, shard: Shard) -> Sequence[Sample]:
        """The samples of a shard whose cell is not of hard ones; raises DataError."""
        return self.part(self.samples(shard.cell), shard)

    def labelled(
        self, paths: Sequence[Path], stage: str, class_names: Sequence[str]
    ) -> list[Sample]:
        """Samples of images, with the labels of those that are validation images; DataError as of
        `data` and in_classes."""
        wanted = set(paths)
        data = [sample for sample in self.data(stage) if sample.path in wanted]
        known, _ = self.in_classes(data, stage, class_names)
        by_path = {sample.path: sample for sample in known}
        return [by_path.get(path, Sample(path.name, path.parent, None)) for path in paths]

    def part(self, samples: Sequence[Sample], shard: Shard) -> Sequence[Sample]:
        """Of the samples of a shard's cell, those of the shard."""
        start, end = shard.bounds(len(samples), self.shard_size)
        return samples[start:end]

    def files(self, cell: Cell) -> list[Path]:
        """The images that a cell looks at, or may look at."""
        samples = self.samples(cell)
        if self._hard_cell(cell):  # which of the pool they are is not known yet
            samples = samples + self.hard_pool(cell.stage)
        return [sample.path for sample in samples]

    def _count(self, cell: Cell) -> int:
        compare = self._config.compare
        if cell.hard:  # which they are is found out when they are run
            return compare.hard_per_bin * (len(compare.hardness_bins) - 1)
        try:
            return len(self.samples(cell))
        except DataError:
            return 0  # the cell's one shard says why when it runs

    def _hard_cell(self, cell: Cell) -> tuple[Cell, ...]:
        """Coverage also looks where a classifier is unsure, if the configuration says so."""
        wanted = self._config.compare.hard_per_bin > 0 and self.bundle is None
        fits = task_of(cell.stage).hard and cell.mode == "coverage"
        return (replace(cell, hard=True),) if wanted and fits else ()
