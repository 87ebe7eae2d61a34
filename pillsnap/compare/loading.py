"""Batches of preprocessed images, read ahead while the engines work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from pillsnap.datasets import Sample
from pillsnap.engines.protocol import Batch, Transform
from pillsnap.errors import ImageError
from pillsnap.images import decode_image, read_bytes
from pillsnap.preprocess import Geometry, LetterboxTransform, classify_tensor, letterbox_tensor


@dataclass
class Prepared:
    """A batch of the samples that could be read.

    Attributes:
        samples: those samples, in order.
        array: float32 [N,3,H,W], as every engine sees them.
        contents: SHA-256 of each file's bytes, raw.
        geometries: for scenes, how to get back to the photo's pixels.
        unreadable: reason by id, of the samples of the batch that are left out.
    """

    samples: list[Sample]
    array: Batch
    contents: list[bytes]
    geometries: list[Geometry] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


Load = Callable[[Sequence[Sample], Transform, int], Iterator[Prepared]]


def load_batches(
    samples: Sequence[Sample], transform: Transform, batch_size: int
) -> Iterator[Prepared]:
    """Read and preprocess `samples` in batches cut by index, one batch ahead of the caller.

    Pillow and OpenCV release the interpreter's lock, so a batch is read while another runs.
    """
    starts = range(0, len(samples), batch_size)
    with ThreadPoolExecutor(1) as pool:
        ahead = [
            pool.submit(prepare, samples[start : start + batch_size], transform)
            for start in starts[:1]
        ]
        for start in starts:
            current = ahead.pop()
            following = samples[start + batch_size : start + 2 * batch_size]
            batch = current.result()
            if following:
                ahead.append(pool.submit(prepare, following, transform))
            yield batch


def prepare(samples: Sequence[Sample], transform: Transform) -> Prepared:
    """Read and preprocess one batch."""
    batch = Prepared([], np.empty((0, 3, 0, 0), np.float32), [])
    arrays: list[Batch] = []
    for sample in samples:
        try:
            data = read_bytes(sample.path)
            image = decode_image(data, sample.path)
        except ImageError as error:
            batch.unreadable[sample.id] = str(error)
            continue
        if isinstance(transform, LetterboxTransform):
            array, geometry = letterbox_tensor(image, transform)
            batch.geometries.append(geometry)
        else:
            array = classify_tensor(image, transform)
        arrays.append(array)
        batch.samples.append(sample)
        batch.contents.append(hashlib.sha256(data).digest())
    if arrays:
        batch.array = np.stack(arrays)
    return batch
