"""Reference and candidate over the samples of a shard: one record per sample.

Images are read and preprocessed once, and both engines get the very same array. Nothing is judged
here; what could not be read is named, never dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.exactness import OutputPart, PartError
from pillsnap.compare.loading import Prepared
from pillsnap.compare.records import Array, Columns, concatenate
from pillsnap.core.errors import WrongCandidate
from pillsnap.data.datasets import Sample
from pillsnap.engines.protocol import Batch, Engine
from pillsnap.pipeline.transforms import Geometry

# Outputs wait until so many bytes are worth a pass of the recorder: with few classes, a call of
# numpy costs more than its work.
_PENDING_BYTES = 1 << 20


class Recorder(Protocol):
    """Turns outputs into columns, one row a sample.

    Attributes:
        drift: figures that are the maximum of a column, over strides too, and that column.
    """

    drift: Mapping[str, str]

    def as_candidate(self, output: Batch) -> Batch:
        """What a reference answers as candidates give it."""
        ...

    def as_reference(self, output: Batch, ref: Batch) -> Batch:
        """What a candidate answers as the reference would have, which answered `ref`."""
        ...

    def errors(self, exact: NDArray[np.float64], ref: Batch, cand: Batch) -> list[PartError]:
        """Rounding errors of both sides against the reference in float64, for the same images."""
        ...

    def parts(self, output: NDArray[Any]) -> list[OutputPart]:
        """An output's kinds of numbers, each with a rounding error of its own."""
        ...

    def columns(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], ref: Batch, cand: Batch
    ) -> Columns:
        """Columns of N samples.

        Args:
            geometries: of letterboxed images, N; empty for others.
            ref, cand: float32 logits [N,C], or boxes [N,A,7] and [N,A,6]: the seventh column is the
                gap of the reference's two best scores.
        """
        ...


@dataclass
class Compared:
    """What a shard yields. `columns` is None when not one image could be read."""

    columns: dict[str, Array] | None
    unreadable: dict[str, str]
    non_finite: list[str]


@dataclass
class _Pending:
    """Outputs that wait for the recorder, and what it needs beside them; no image is kept."""

    samples: list[Sample] = field(default_factory=list)
    geometries: list[Geometry] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    ref: list[Batch] = field(default_factory=list)
    cand: list[Batch] = field(default_factory=list)
    size: int = 0

    def add(self, batch: Prepared, ref: Batch, cand: Batch) -> None:
        self.samples += batch.samples
        self.geometries += batch.geometries
        self.contents += batch.contents
        self.ref.append(ref)
        self.cand.append(cand)
        self.size += ref.nbytes

    def record(self, recorder: Recorder) -> Columns:
        ref, cand = np.concatenate(self.ref), np.concatenate(self.cand)
        content = np.frombuffer(b"".join(self.contents), np.uint8).reshape(len(ref), -1)
        columns = recorder.columns(self.samples, self.geometries, ref, cand)
        return {**columns, "content": content}


def compare_batches(
    batches: Iterable[Prepared],
    reference: Callable[[Prepared], Batch],
    candidate: Engine,
    recorder: Recorder,
    see: Callable[[Prepared, Batch, Batch], None] | None = None,
) -> Compared:
    """Run both engines over batches and record how far they are apart.

    Args:
        reference: the reference's output for a batch, computed or remembered.
        see: is shown every batch with the outputs of reference and candidate.

    Raises:
        WrongCandidate: the candidate's output has another shape than the reference's.
    """
    unreadable: dict[str, str] = {}
    parts: list[Columns] = []
    pending = _Pending()
    for batch in batches:
        unreadable |= batch.unreadable
        if not batch.samples:
            continue
        ref = reference(batch)
        cand = candidate.run(batch.array)
        _check_shapes(recorder.as_candidate(ref), cand)
        if see is not None:
            see(batch, ref, cand)
        pending.add(batch, ref, cand)
        if pending.size >= _PENDING_BYTES:
            parts.append(pending.record(recorder))
            pending = _Pending()
    if pending.samples:
        parts.append(pending.record(recorder))
    if not parts:
        return Compared(None, unreadable, [])
    columns = concatenate(parts)
    broken = columns["ref_finite"] & ~columns["cand_finite"]
    return Compared(columns, unreadable, columns["id"][broken].tolist())


def _check_shapes(ref: Batch, cand: Batch) -> None:
    if cand.shape != ref.shape:
        raise WrongCandidate(
            "the candidate's output has the wrong shape",
            got=list(cand.shape),
            expected=f"{list(ref.shape)} (the reference's)",
            hint="check num_classes, input_shape and the output's axes in the export",
        )
