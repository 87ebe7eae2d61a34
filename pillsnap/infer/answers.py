"""Photos of files through the pipeline, a batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pillsnap.core.errors import ImageError
from pillsnap.pipeline.images import decode_image, read_bytes
from pillsnap.pipeline.preprocess import Pixels
from pillsnap.pipeline.twostage import Pipeline, Result


@dataclass(frozen=True)
class Answer:
    """What is said of a photo.

    Attributes:
        content: see content_of.
        image: uint8 [H, W, 3], RGB; where it cannot be read, None.
        result: its path and what Pipeline.run gives, or error.
    """

    content: str
    image: Pixels | None
    result: Result


def answer(paths: Sequence[Path], pipeline: Pipeline, mode: str) -> list[Answer]:
    """One answer a photo, in order; errors are Pipeline.run's."""
    read = [_read(path) for path in paths]
    found = iter(pipeline.run([image for _, image, _ in read if image is not None], mode))
    return [
        Answer(
            content,
            image,
            {"image": str(path), **({"error": error} if image is None else next(found))},
        )
        for path, (content, image, error) in zip(paths, read, strict=True)
    ]


def content_of(path: Path) -> str:
    """SHA-256 of a file in hex, or why it cannot be read."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except ImageError as error:
        return _one_line(error)


def _read(path: Path) -> tuple[str, Pixels | None, str]:
    """Content, image and why there is none."""
    content = ""
    try:
        data = read_bytes(path)
        content = hashlib.sha256(data).hexdigest()
        return content, decode_image(data, path), ""
    except ImageError as error:
        reason = _one_line(error)
        return content or reason, None, reason


def _one_line(error: ImageError) -> str:
    return " ".join(str(error).split())
