"""Reference and candidate over the samples of a shard: one record per sample.

Images are read and preprocessed once, and both engines get the very same array. Nothing is judged
here; what could not be read is named, never dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pillsnap.artifacts import sha256_file
from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.detection import DetectionRecorder
from pillsnap.config import Nms
from pillsnap.datasets import Sample
from pillsnap.engines.protocol import Batch, Engine, Reference, Transform
from pillsnap.errors import ImageError, PillsnapError
from pillsnap.images import read_image
from pillsnap.preprocess import Geometry, LetterboxTransform, classify_tensor, letterbox_tensor
from pillsnap.records import Columns, concatenate


class ShapeMismatch(PillsnapError):
    """The candidate's output has another shape than the reference's: a breach, not a mishap."""


class Recorder(Protocol):
    """Turns one batch of outputs into columns, one row a sample."""

    def columns(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], ref: Batch, cand: Batch
    ) -> Columns: ...


@dataclass
class Prepared:
    """A batch of the samples that were read: float32 [3,H,W] arrays as every engine sees them, and
    for scenes how to get back to the photo's pixels."""

    samples: list[Sample] = field(default_factory=list)
    arrays: list[Batch] = field(default_factory=list)
    geometries: list[Geometry] = field(default_factory=list)


@dataclass
class Compared:
    """What a shard yields. `columns` is None when not one image could be read."""

    columns: Columns | None
    unreadable: dict[str, str]
    non_finite: list[str]


def prepare(
    samples: Sequence[Sample], transform: Transform, unreadable: dict[str, str]
) -> Prepared:
    """Read and preprocess a batch; what cannot be read goes into `unreadable` with its reason."""
    batch = Prepared()
    for sample in samples:
        try:
            image = read_image(sample.path)
        except ImageError as error:
            unreadable[sample.id] = str(error)
            continue
        if isinstance(transform, LetterboxTransform):
            array, geometry = letterbox_tensor(image, transform)
            batch.geometries.append(geometry)
        else:
            array = classify_tensor(image, transform)
        batch.samples.append(sample)
        batch.arrays.append(array)
    return batch


def recorder(reference: Reference, nms: Nms) -> Recorder:
    """The recorder of the reference's stage."""
    if isinstance(reference.transform, LetterboxTransform):
        shape = (reference.transform.height, reference.transform.width)
        return DetectionRecorder(reference.strides, shape, nms)
    return ClassificationRecorder()


def compare_samples(
    samples: Sequence[Sample],
    reference: Reference,
    candidate: Engine,
    *,
    nms: Nms,
    batch_size: int,
) -> Compared:
    """Run both engines over `samples`, in batches cut by sample index.

    Raises:
        ShapeMismatch: the candidate's output has another shape than the reference's.
    """
    record = recorder(reference, nms)
    unreadable: dict[str, str] = {}
    parts: list[Columns] = []
    for start in range(0, len(samples), batch_size):
        batch = prepare(samples[start : start + batch_size], reference.transform, unreadable)
        if not batch.samples:
            continue
        array = np.stack(batch.arrays)
        ref = reference.engine.run(array)
        cand = candidate.run(array)
        _check_shapes(ref, cand, detection=bool(batch.geometries))
        columns = record.columns(batch.samples, batch.geometries, ref, cand)
        contents = [sha256_file(sample.path) for sample in batch.samples]
        parts.append({**columns, "content": np.array(contents)})
    if not parts:
        return Compared(None, unreadable, [])
    columns = concatenate(parts)
    broken = columns["ref_finite"] & ~columns["cand_finite"]
    return Compared(columns, unreadable, columns["id"][broken].tolist())


def _check_shapes(ref: Batch, cand: Batch, *, detection: bool) -> None:
    expected = (*ref.shape[:2], 6) if detection else ref.shape
    if cand.shape != expected:
        raise ShapeMismatch(
            "the candidate's output has the wrong shape",
            got=list(cand.shape),
            expected=f"{list(expected)} (the reference's)",
            hint="check num_classes, input_shape and the output's axes in the export",
        )
