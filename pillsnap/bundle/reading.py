"""Reading a golden bundle: samples, batches and reference outputs, each file held to its hash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pillsnap.artifacts import sha256_file
from pillsnap.bundle.writing import FORMAT
from pillsnap.compare.loading import Prepared
from pillsnap.compare.remembered import RememberedReference
from pillsnap.datasets import Sample
from pillsnap.engines.protocol import Batch, Reference, Transform
from pillsnap.errors import DataError
from pillsnap.labels import Box
from pillsnap.preprocess import ClassifyTransform, Geometry, LetterboxTransform
from pillsnap.textfiles import read_json


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
                hint="write one with pytest -m coverage --save-reference DIR",
            )
        self._cells = {(cell["stage"], cell["mode"]): cell for cell in content["cells"]}
        self._parts: dict[tuple[str, str], _Part] = {}

    def samples(self, stage: str, mode: str) -> list[Sample]:
        """The samples of a stage and mode, sorted by id; raises DataError where it has none."""
        return sorted(
            (sample for part in self._of(stage, mode) for sample in part.samples),
            key=lambda sample: sample.id,
        )

    def reference(self, stage: str, mode: str) -> RememberedReference:
        """Answers for the samples of a stage and mode."""
        cell = self._cell(stage, mode)
        kind = LetterboxTransform if stage == "detection" else ClassifyTransform
        values: Any = {
            k: tuple(v) if isinstance(v, list) else v for k, v in cell["transform"].items()
        }
        engine = _Stored({"bundle": str(self.folder), **cell["reference"]})
        reference = Reference(engine, kind(**values), tuple(cell["strides"]))
        return StoredReference(reference, self._rows(stage, mode))

    def load(
        self, samples: Sequence[Sample], transform: Transform, batch_size: int
    ) -> Iterator[Prepared]:
        """Batches as compare.loading.load_batches gives them, out of the bundle."""
        stage = "detection" if isinstance(transform, LetterboxTransform) else "classification"
        for start in range(0, len(samples), batch_size):
            part = list(samples[start : start + batch_size])
            rows = [self._row(stage, sample) for sample in part]
            yield Prepared(
                part,
                np.stack([found.inputs[index] for found, index in rows]),
                [found.contents[index] for found, index in rows],
                [found.geometries[index] for found, index in rows if found.geometries],
            )

    def _cell(self, stage: str, mode: str) -> dict[str, Any]:
        if (stage, mode) not in self._cells:
            raise DataError(
                f"the bundle has nothing for {stage} in mode {mode}",
                where=self.folder,
                expected=", ".join(f"{a} {b}" for a, b in self._cells),
            )
        return dict(self._cells[stage, mode])

    def _of(self, stage: str, mode: str) -> list[_Part]:
        cell = self._cell(stage, mode)
        for name in cell["shards"]:
            if (stage, name) not in self._parts:
                self._parts[stage, name] = _Part(self.folder, name, cell["sha256"])
        return [self._parts[stage, name] for name in cell["shards"]]

    def _rows(self, stage: str, mode: str) -> dict[str, tuple[_Part, int]]:
        return {
            sample.id: (part, index)
            for part in self._of(stage, mode)
            for index, sample in enumerate(part.samples)
        }

    def _row(self, stage: str, sample: Sample) -> tuple[_Part, int]:
        for (of_stage, _), part in self._parts.items():
            if of_stage == stage and sample.id in part.index:
                return part, part.index[sample.id]
        raise DataError("a sample is not in the bundle", where=self.folder, got=sample.id)


class StoredReference(RememberedReference):
    """A reference whose answers were saved, by the sample's id."""

    def __init__(self, reference: Reference, rows: Mapping[str, tuple[_Part, int]]) -> None:
        super().__init__(reference, None)
        self._rows = rows

    def outputs(self, batch: Prepared) -> Batch:
        found = [self._rows[sample.id] for sample in batch.samples]
        return np.stack([part.outputs[index] for part, index in found])


class _Stored:
    """Stands for the engine that answered when the bundle was made."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info

    def run(self, batch: Batch) -> Batch:
        raise DataError("a bundle answers for its own samples only", where=self.info["bundle"])


class _Part:
    """A shard's files, each checked before it is used."""

    def __init__(self, folder: Path, name: str, sha256: Mapping[str, str]) -> None:
        self._folder = folder
        self._name = name
        self._sha256 = sha256
        facts = read_json(self._checked(".json"), DataError)
        self.samples = [
            Sample(sample_id, folder, label, _boxes(boxes))
            for sample_id, label, boxes in zip(
                facts["ids"], facts["labels"], facts["boxes"], strict=True
            )
        ]
        self.index = {sample.id: row for row, sample in enumerate(self.samples)}
        self.contents = [bytes.fromhex(text) for text in facts["contents"]]
        self.geometries = [Geometry(**each) for each in facts["geometries"]]

    @cached_property
    def inputs(self) -> Batch:
        return self._array(".input.npy")

    @cached_property
    def outputs(self) -> Batch:
        return self._array(".output.npy")

    def _array(self, part: str) -> Batch:
        # Mapped, so that a bundle may be larger than the memory of a small machine.
        found: Batch = np.load(self._checked(part), mmap_mode="r", allow_pickle=False)
        return found

    def _checked(self, part: str) -> Path:
        path = self._folder / f"{self._name}{part}"
        if sha256_file(path) != self._sha256.get(path.name):
            raise DataError(
                "a file of the bundle is not what its manifest says",
                where=path,
                hint="copy the whole folder again",
            )
        return path


def _boxes(rows: list[list[float]] | None) -> tuple[Box, ...] | None:
    if rows is None:
        return None
    return tuple(Box(int(row[0]), *row[1:]) for row in rows)
