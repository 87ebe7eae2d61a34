"""Reading a golden bundle: samples, batches and reference outputs, each file held to its hash."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.exactness import Exact
from pillsnap.compare.loading import Prepared
from pillsnap.compare.reference import CachedReference
from pillsnap.compare.tasks import task_of
from pillsnap.core.arrayfiles import read_npy_head
from pillsnap.core.errors import DataError
from pillsnap.core.hashes import sha256_file
from pillsnap.core.placeholders import read_placeholder
from pillsnap.core.regularfiles import open_regular
from pillsnap.core.textfiles import read_json
from pillsnap.data.datasets import Sample
from pillsnap.data.labels import Box
from pillsnap.engines.protocol import Batch, Reference, Transform
from pillsnap.gate.bundle.checks import check_facts, read_cells
from pillsnap.gate.bundle.writing import EXACT, FORMAT


class Bundle:
    """A bundle on disk. Files are held to the manifest's hashes when they are first read.

    Raises:
        DataError: there is no manifest, or it is none of this format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = read_json(folder / "manifest.json", DataError)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(
                "this is no golden bundle",
                where=folder / "manifest.json",
                expected=f"a manifest of format {FORMAT}",
                hint="write one with pillsnap gate -m coverage --save-reference DIR",
            )
        self._cells = read_cells(content, folder / "manifest.json")
        self._known: dict[tuple[str, str], _Rows] = {}

    def samples(self, stage: str, mode: str) -> list[Sample]:
        """The samples of a stage and mode, sorted by id; raises DataError where it has none."""
        rows = self._rows(stage, mode)
        return [part.samples[index] for _, (part, index) in sorted(rows.items())]

    def reference(self, stage: str, mode: str) -> CachedReference:
        """Answers for the samples of a stage and mode."""
        cell = self._cell(stage, mode)
        engine = _Stored({**cell["reference"], "bundle": str(self.folder)})
        reference = Reference(engine, cell["transform"], cell["strides"])
        return StoredReference(reference, self._rows(stage, mode), task_of(stage).is_output)

    def load(
        self, samples: Sequence[Sample], transform: Transform, batch_size: int
    ) -> Iterator[Prepared]:
        """Batches as compare.loading.load_batches gives them, out of the bundle."""
        for start in range(0, len(samples), batch_size):
            part = list(samples[start : start + batch_size])
            rows = [self._row(transform, sample) for sample in part]
            yield Prepared(
                part,
                np.stack([found.inputs[index] for found, index in rows]),
                [found.contents[index] for found, index in rows],
                [found.geometries[index] for found, index in rows if found.geometries],
            )

    def _cell(self, stage: str, mode: str) -> Mapping[str, Any]:
        if (stage, mode) not in self._cells:
            raise DataError(
                f"the bundle has nothing for {stage} in mode {mode}",
                where=self.folder,
                expected=", ".join(f"{a} {b}" for a, b in self._cells),
            )
        return self._cells[stage, mode]

    def _rows(self, stage: str, mode: str) -> _Rows:
        """Where each sample of a stage and mode lies, by its id."""
        if (stage, mode) not in self._known:
            cell, rows = self._cell(stage, mode), _Rows()
            for part in (_Part(self.folder, name, cell) for name in cell["shards"]):
                for index, sample in enumerate(part.samples):
                    if sample.id in rows:
                        twice = f"a sample of {stage} {mode} twice"
                        raise _damaged(self.folder, twice, "each in one shard")
                    rows[sample.id] = (part, index)
            self._known[stage, mode] = rows
        return self._known[stage, mode]

    def _row(self, transform: Transform, sample: Sample) -> tuple[_Part, int]:
        for rows in self._known.values():
            found = rows.get(sample.id)
            if found is not None and found[0].transform == transform:
                return found
        raise DataError("a sample is not in the bundle", where=self.folder, got=sample.id)


class StoredReference(CachedReference):
    """A reference whose answers were saved, by the sample's id."""

    def __init__(
        self,
        reference: Reference,
        rows: _Rows,
        is_output: Callable[[tuple[int, ...]], bool],
    ) -> None:
        super().__init__(reference, None, is_output)
        self._rows = rows

    def outputs(self, batch: Prepared) -> Batch:
        found = [self._rows[sample.id] for sample in batch.samples]
        return np.stack([part.outputs[index] for part, index in found])

    def exact_outputs(self, images: Batch, contents: Sequence[bytes]) -> Exact | None:
        """As many as were saved, of the bundle's first images."""
        for part, _ in self._rows.values():
            count = len(part.exact)
            if count and part.contents[: len(contents)] == list(contents):
                return part.exact[: len(contents)]
        return None


class _Stored:
    """Stands for the engine that answered when the bundle was made."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info

    def run(self, batch: Batch) -> Batch:
        raise DataError("a bundle answers for its own samples only", where=self.info["bundle"])


class _Part:
    """A shard's files, each checked before it is used."""

    def __init__(self, folder: Path, name: str, cell: Mapping[str, Any]) -> None:
        self._folder = folder
        self._name = name
        self._sha256: Mapping[str, str] = cell["sha256"]
        path = self._checked(".json")
        facts = read_json(path, DataError)
        self.geometries = check_facts(facts, path)
        self.samples = [
            Sample(sample_id, folder, label, _boxes(boxes))
            for sample_id, label, boxes in zip(
                facts["ids"], facts["labels"], facts["boxes"], strict=True
            )
        ]
        self.contents = [bytes.fromhex(text) for text in facts["contents"]]
        self.transform: Transform = cell["transform"]
        self._task = task_of(cell["stage"])
        if len(self.geometries) != (len(self.samples) if self._task.scenes else 0):
            raise _damaged(path, f"{len(self.geometries)} geometries", "one for each scene")
        self._input = (len(self.samples), 3, *self.transform.input_size)

    @cached_property
    def inputs(self) -> Batch:
        return self._array(".input.npy", lambda shape: shape == self._input, f"{self._input}")

    @cached_property
    def outputs(self) -> Batch:
        def fits(shape: tuple[int, ...]) -> bool:
            return self._task.is_output(shape) and shape[0] == len(self.samples)

        expected = f"{self._task.output} of {len(self.samples)} samples"
        return self._array(".output.npy", fits, expected)

    @cached_property
    def exact(self) -> Exact:
        """Float64 outputs of the first samples; of none where the bundle has none."""
        if f"{self._name}{EXACT}" not in self._sha256:
            return np.empty(0)

        def fits(shape: tuple[int, ...]) -> bool:
            return self._task.is_output(shape) and 0 < shape[0] <= len(self.samples)

        return self._array(EXACT, fits, f"{self._task.output}", np.float64)

    def _array(
        self,
        part: str,
        fits: Callable[[tuple[int, ...]], bool],
        expected: str,
        kind: type[np.floating[Any]] = np.float32,
    ) -> NDArray[Any]:
        expected = f"{np.dtype(kind)} {expected}"
        path = self._checked(part)
        with open_regular(path) as file:
            try:
                dtype, shape, order = read_npy_head(file, path.stat().st_size)
            except ValueError as error:
                raise _damaged(path, error, expected) from error
            if dtype != kind or order != "C" or not fits(shape):
                raise _damaged(path, f"{dtype} {list(shape)}", expected)
            # Mapped, so that a bundle may be larger than the memory of a small machine.
            found: NDArray[Any] = np.memmap(file, dtype, "r", file.tell(), shape)
        return found

    def _checked(self, part: str) -> Path:
        path = self._folder / f"{self._name}{part}"
        if sha256_file(path) != self._sha256.get(path.name):
            standing = read_placeholder(path)
            raise DataError(
                "a file of the bundle is not what its manifest says",
                where=path,
                got=None if standing is None else standing.kind,
                hint="copy the whole folder again" if standing is None else standing.hint,
            )
        return path


_Rows = dict[str, tuple[_Part, int]]


def _damaged(path: Path, got: object, expected: str) -> DataError:
    return DataError(
        "a file of the bundle does not hold what it should",
        where=path,
        got=got,
        expected=expected,
        hint="write it again with --save-reference DIR",
    )


def _boxes(rows: list[list[float]] | None) -> tuple[Box, ...] | None:
    return None if rows is None else tuple(Box(int(row[0]), *row[1:]) for row in rows)
