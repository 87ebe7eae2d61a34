"""Every convention of ultralytics' `output0`, boxes before NMS; and what rows of boxes mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pillsnap.config.cells import DETECTION
from pillsnap.engines.layouts.records import Array, Expected, Layout, each_output
from pillsnap.pipeline.layouts import CONVENTIONS, READERS

# Boxes in 0..1 may reach over the edge of the image; those in pixels reach far beyond this.
_NORMALISED = 2.0

# Rounding of half precision in values of 0 to 1.
_ROUNDING = 1e-3


def _many(count: int, columns: int, expected: Expected) -> bool:
    """Whether so many rows are the boxes before NMS."""
    return count == expected.boxes if expected.boxes is not None else count > columns


def finite(rows: Array) -> Array:
    """The rows [N,A,columns] that are finite, float32 [M,columns]."""
    found: Array = rows[np.isfinite(rows).all(axis=-1)].astype(np.float32)
    return found


def are_parts(values: Array) -> bool:
    return bool(((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)).all())


def are_classes(values: Array, classes: int) -> bool:
    whole = (values == np.round(values)) & (values >= 0) & (values < classes)
    return bool(whole.all())


def rows_of_boxes(outputs: Sequence[Array], expected: Expected) -> bool:
    rows = finite(outputs[0])
    return are_parts(rows[:, 4]) and are_classes(rows[:, 5], expected.classes)


def are_small(boxes: Array) -> bool:
    return bool(np.abs(boxes).max(initial=0.0) <= _NORMALISED)


def raw(*, transposed: bool, objectness: bool, normalised: bool, corners: bool) -> Layout:
    """One convention of ultralytics' `output0`.

    Args:
        transposed: a box is a row, not a column.
        objectness: a column before those of the classes is a factor of them all.
        normalised: boxes are parts of the image's width and height, not pixels.
        corners: boxes are x1, y1, x2, y2, not centre and size.
    """
    scores = 5 if objectness else 4

    def fits(shape: tuple[int, ...], expected: Expected) -> bool:
        if len(shape) != 3:
            return False
        count, columns = (shape[1], shape[2]) if transposed else (shape[2], shape[1])
        return columns == scores + expected.classes and _many(count, columns, expected)

    def rows_of(outputs: Sequence[Array]) -> Array:
        return outputs[0] if transposed else outputs[0].swapaxes(1, 2)

    def means(outputs: Sequence[Array], expected: Expected) -> bool:
        if transposed and rows_of(outputs).shape[2] == 6 and rows_of_boxes(outputs, expected):
            return False  # the sixth column is a class
        rows = finite(rows_of(outputs))
        boxes = rows[:, :4]
        small = are_small(boxes)
        # Of centre and size, somewhere in the image the centre is more than the size.
        ordered = bool((boxes[:, 2:] >= boxes[:, :2]).all())
        return (small, ordered) == (normalised, corners) and are_parts(rows[:, 4:])

    flags = (transposed, objectness, normalised, corners)
    given = [name for name, is_so in zip(CONVENTIONS, flags, strict=True) if is_so]
    columns = f"{scores}+classes"
    words = f"[N,boxes,{columns}]" if transposed else f"[N,{columns},boxes]"
    boxes = "corners" if corners else "centre and size"
    words += f", {boxes} {'in 0..1' if normalised else 'in pixels'}"
    name = "-".join(["output0", *given])
    return Layout(
        name,
        DETECTION,
        words,
        "outputs",
        each_output(fits),
        means,
        READERS[name],
        None if given else "".join(f"[-{each}]" for each in CONVENTIONS),
    )
