"""What files of other exporters give, as the pipeline takes it: boxes in input pixels, or logits.

A reader takes a file's outputs [N,...] and the height and width of the images; it gives float32
[N,A,6] boxes (x1,y1,x2,y2,score,class_id; input px) or [N,C] logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Below it float32 loses digits, and an exporter's zero has no logarithm.
LEAST_PROBABILITY = 1e-30

# What may be otherwise in a detector's `output0`, in the order in which names of layouts say so.
CONVENTIONS = ("transposed", "objectness", "normalised", "corners")


def read_rows(outputs: Sequence[NDArray[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
    """Rows of boxes as they are."""
    return outputs[0].astype(np.float32, copy=False)


def read_raw(
    outputs: Sequence[NDArray[Any]],
    size: tuple[int, int],
    *,
    transposed: bool,
    objectness: bool,
    normalised: bool,
    corners: bool,
) -> NDArray[np.float32]:
    """Boxes before NMS with a score for each class, of which the best stays.

    Args:
        transposed: a box is a row, not a column.
        objectness: a column before those of the classes is a factor of them all.
        normalised: boxes are parts of the image's width and height, not pixels.
        corners: boxes are x1, y1, x2, y2, not centre and size.
    """
    rows = (outputs[0] if transposed else outputs[0].swapaxes(1, 2)).astype(np.float32)
    boxes, parts = rows[..., :4], rows[..., 5 if objectness else 4 :]
    boxes = _in_pixels(boxes, size) if normalised else boxes
    boxes = boxes if corners else _corners_of(boxes)
    if objectness:
        parts = parts * rows[..., 4:5]
    index = parts.argmax(axis=-1)[..., None]
    best = np.take_along_axis(parts, index, axis=-1)
    found: NDArray[np.float32] = np.concatenate([boxes, best, index.astype(np.float32)], axis=-1)
    return found


def read_best_classes(
    outputs: Sequence[NDArray[Any]], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Rows of boxes without those that repeat a box under another class of a lower score. What
    repeats box and class stays: no head without faults gives it."""
    found = read_rows(outputs, size).copy()
    for rows in found:
        order = np.argsort(-rows[:, 4], kind="stable")
        others = np.zeros(len(rows), bool)
        for columns, is_other in (([0, 1, 2, 3, 5], True), ([0, 1, 2, 3], False)):
            _, first = np.unique(rows[order][:, columns], axis=0, return_index=True)
            others[order[first]] = is_other
        rows[others & np.isfinite(rows).all(axis=1)] = 0
    return found


def read_queries(outputs: Sequence[NDArray[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
    """The same of rows whose boxes are centre and size, as parts of the image."""
    rows = read_rows(outputs, size)
    boxes = _corners_of(_in_pixels(rows[..., :4], size))
    return read_best_classes([np.concatenate([boxes, rows[..., 4:]], axis=-1)], size)


def read_counted(outputs: Sequence[NDArray[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
    """Rows out of count, boxes, scores and classes; zeros behind the count."""
    count, boxes, scores, classes = outputs
    rows = np.concatenate(
        [part.astype(np.float32) for part in (boxes, scores[..., None], classes[..., None])],
        axis=-1,
    )
    rows[np.arange(rows.shape[1]) >= count.reshape(-1, 1)] = 0
    return rows


def read_flat(
    outputs: Sequence[NDArray[Any]], size: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """Logits, also of a network that ends in a convolution."""
    flat: NDArray[np.float32] = outputs[0].reshape(len(outputs[0]), -1).astype(np.float32)
    return flat


def read_logarithms(outputs: Sequence[NDArray[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
    """Logits of probabilities."""
    least = np.float32(LEAST_PROBABILITY)
    found: NDArray[np.float32] = np.log(np.maximum(read_flat(outputs, size), least))
    return found


def _in_pixels(boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size
    return boxes * np.array([width, height, width, height], np.float32)


def _corners_of(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of boxes [...,4] as centre and size."""
    centre, half = boxes[..., :2], boxes[..., 2:] * np.float32(0.5)
    return np.concatenate([centre - half, centre + half], axis=-1)


def _raw_readers() -> dict[str, Callable[..., NDArray[np.float32]]]:
    found: dict[str, Callable[..., NDArray[np.float32]]] = {}
    for flags in product((False, True), repeat=len(CONVENTIONS)):
        given: dict[str, Any] = dict(zip(CONVENTIONS, flags, strict=True))
        name = "-".join(["output0", *(name for name, is_so in given.items() if is_so)])
        found[name] = partial(read_raw, **given)
    return found


READERS: Mapping[str, Callable[..., NDArray[np.float32]]] = {
    "detections": read_rows,
    **_raw_readers(),
    "nms": read_rows,
    "end-to-end": read_best_classes,
    "queries": read_queries,
    "efficient-nms": read_counted,
    "logits": read_flat,
    "probabilities": read_logarithms,
    "log-probabilities": read_flat,
}
"""By the name of the layout."""
