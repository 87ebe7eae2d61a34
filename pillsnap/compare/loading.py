"""Batches of preprocessed images, read by several threads at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from pillsnap.compare.trained_pixels import differs_in_timm
from pillsnap.core.errors import ImageError
from pillsnap.core.fetching import fetched
from pillsnap.data.datasets import Sample
from pillsnap.engines.protocol import Batch, Transform
from pillsnap.pipeline.images import decode_image, read_bytes
from pillsnap.pipeline.preprocess import preprocess_placed
from pillsnap.pipeline.transforms import ClassifyTransform, Geometry


@dataclass
class Prepared:
    """A batch of the samples that could be read.

    Attributes:
        samples: those samples, in order.
        array: float32 [N,3,H,W], as every engine sees them.
        contents: SHA-256 of each file's bytes, raw.
        geometries: for scenes, how to get back to the photo's pixels.
        unreadable: reason by id, of the samples of the batch that are left out.
        remarks: what is to be said of how photos were read.
    """

    samples: list[Sample]
    array: Batch
    contents: list[bytes]
    geometries: list[Geometry] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    remarks: set[str] = field(default_factory=set)


Load = Callable[[Sequence[Sample], Transform, int], Iterator[Prepared]]


def load_batches(
    samples: Sequence[Sample], transform: Transform, batch_size: int, threads: int = 1
) -> Iterator[Prepared]:
    """Read and preprocess `samples` in batches cut by index, when they are asked for.

    Pillow and OpenCV release the interpreter's lock, so threads help. Reading ahead does not: on
    two cores it takes more from engines that compute on all of them (7.7 for 7.2 s a batch of
    YOLO11m) than it spares (0.15 s).
    """
    paths = fetched(sample.path for sample in samples)
    with ThreadPoolExecutor(threads) as pool, closing(paths):
        for start in range(0, len(samples), batch_size):
            part = samples[start : start + batch_size]
            files = list(islice(paths, len(part)))
            images = pool.map(lambda sample, path: _read(sample, path, transform), part, files)
            yield _gather(part, list(images))


_Image = tuple[Batch, bytes, Geometry | None, list[str]]


def _read(sample: Sample, path: Path, transform: Transform) -> _Image | str:
    """An image's array, hash, geometry and remarks, or the reason why it cannot be read."""
    remarks: list[str] = []

    def look(opened: Image.Image) -> None:
        if isinstance(transform, ClassifyTransform) and (said := differs_in_timm(opened)):
            remarks.append(said)

    try:
        data = read_bytes(path)
        image = decode_image(data, path, look)
    except ImageError as error:
        return str(error)
    if sample.size is not None:
        height, width = image.shape[:2]
        problem = _contradiction(sample.size, (width, height))
        if problem is not None:
            return f"{path}: {problem}"
    digest = hashlib.sha256(data).digest()
    array, geometry = preprocess_placed(image, transform)
    return array, digest, geometry, remarks


def _contradiction(said: tuple[float, float], real: tuple[int, int]) -> str | None:
    """What is wrong with the size that labels are for; the same picture in another size is fine."""
    (width, height), (true_width, true_height) = said, real
    # Within what rounding the shorter side makes of it.
    if abs(width * true_height - height * true_width) <= max(*said, *real):
        return None
    turned = (height, width) == real
    return (
        f"its labels are for {width:g} x {height:g} pixels, and it has {true_width} x {true_height}"
        + (" when it is turned upright by its EXIF orientation, as training does" if turned else "")
    )


def _gather(samples: Sequence[Sample], images: Sequence[_Image | str]) -> Prepared:
    batch = Prepared([], np.empty((0, 3, 0, 0), np.float32), [])
    arrays: list[Batch] = []
    for sample, image in zip(samples, images, strict=True):
        if isinstance(image, str):
            batch.unreadable[sample.id] = image
            continue
        array, digest, geometry, remarks = image
        arrays.append(array)
        batch.samples.append(sample)
        batch.contents.append(digest)
        if geometry is not None:
            batch.geometries.append(geometry)
        batch.remarks.update(remarks)
    if arrays:
        batch.array = np.stack(arrays)
    return batch
