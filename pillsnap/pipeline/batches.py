"""Batches of the size that a file insists on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import EngineError

if TYPE_CHECKING:
    import onnxruntime as ort

Batch = NDArray[np.float32]

# In one forward pass, as export.compare.batch_size and serve.batch_size allow.
_MOST_IMAGES = 65536


def fixed_batch_size(session: ort.InferenceSession) -> int | None:
    """Images that a file takes at once; None where it takes any number."""
    size = next(iter(session.get_inputs()[0].shape), None)
    return size if isinstance(size, int) else None


def filled_up(images: Batch, size: int | None) -> Batch:
    """The images, each repeated where a file takes `size` at once, which is more."""
    if size is None:
        return images
    return np.repeat(images, -(-size // len(images)), axis=0)[:size]


def in_fixed_batches(size: int | None, run: Callable[[Batch], Batch]) -> Callable[[Batch], Batch]:
    """`run` of float32 [N,3,H,W] to [N,...], for a file with a fixed batch size fed as many as it
    takes, the last filled up; raises EngineError for a size that nobody can fill."""
    if size is None:
        return run
    if not 1 <= size <= _MOST_IMAGES:
        raise EngineError(
            "the model takes batches of a size that cannot be filled",
            got=size,
            expected=f"1 to {_MOST_IMAGES}, or a free one",
        )

    def run_parts(batch: Batch) -> Batch:
        missing = -len(batch) % size
        filled = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        parts = [run(filled[start : start + size]) for start in range(0, len(filled), size)]
        return _joined(parts)[: len(batch)]

    return run_parts


def _joined(parts: Sequence[Batch]) -> Batch:
    """Parts [n,...] as one; of boxes [n,K,6], of which a file with NMS inside gives each image as
    many as it has, the fewer are filled up with zeros, as other such files do."""
    if len({part.shape[1:] for part in parts}) > 1 and {part.ndim for part in parts} == {3}:
        most = max(part.shape[1] for part in parts)
        parts = [with_rows(part, most) for part in parts]
    return np.concatenate(parts)


def with_rows(boxes: Batch, most: int) -> Batch:
    """Boxes [N,K,6] with zeros behind them as [N,most,6]; K is at most that."""
    return np.pad(boxes, ((0, 0), (0, most - boxes.shape[1]), (0, 0)))
