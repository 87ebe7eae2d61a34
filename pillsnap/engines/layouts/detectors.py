"""Layouts of detectors: boxes before NMS in every convention, and after an NMS inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from pillsnap.config.cells import DETECTION
from pillsnap.engines.layouts.records import (
    Array,
    Expected,
    Layout,
    Outputs,
    each_output,
)
from pillsnap.pipeline.layouts import CONVENTIONS, READERS

# Boxes in 0..1 may reach over the edge of the image; those in pixels reach far beyond this.
_NORMALISED = 2.0

# Rounding of half precision in values of 0 to 1.
_ROUNDING = 1e-3


def _many(count: int, columns: int, expected: Expected) -> bool:
    """Whether so many rows are the boxes before NMS."""
    return count == expected.boxes if expected.boxes is not None else count > columns


def _all_rows(shape: tuple[int, ...], expected: Expected) -> bool:
    """Whether an output is [N,boxes,6] before NMS: where their number is not known, one of a file
    with nothing that leaves boxes out."""
    if len(shape) != 3 or shape[2] != 6:
        return False
    if expected.boxes is None or expected.one_to_one:
        return not (expected.suppresses or expected.one_to_one)
    return shape[1] == expected.boxes


def _finite(rows: Array) -> Array:
    """The rows [N,A,columns] that are finite, float32 [M,columns]."""
    found: Array = rows[np.isfinite(rows).all(axis=-1)].astype(np.float32)
    return found


def _are_parts(values: Array) -> bool:
    return bool(((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)).all())


def _are_classes(values: Array, classes: int) -> bool:
    whole = (values == np.round(values)) & (values >= 0) & (values < classes)
    return bool(whole.all())


def _rows_of_boxes(outputs: Sequence[Array], expected: Expected) -> bool:
    rows = _finite(outputs[0])
    return _are_parts(rows[:, 4]) and _are_classes(rows[:, 5], expected.classes)


def _raw(*, transposed: bool, objectness: bool, normalised: bool, corners: bool) -> Layout:
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
        if transposed and rows_of(outputs).shape[2] == 6 and _rows_of_boxes(outputs, expected):
            return False  # the sixth column is a class
        rows = _finite(rows_of(outputs))
        boxes = rows[:, :4]
        small = bool(np.abs(boxes).max(initial=0.0) <= _NORMALISED)
        # Of centre and size, somewhere in the image the centre is more than the size.
        ordered = bool((boxes[:, 2:] >= boxes[:, :2]).all())
        return (small, ordered) == (normalised, corners) and _are_parts(rows[:, 4:])

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


def _find_parts(outputs: Outputs, _: Expected) -> list[tuple[str, ...]]:
    """Count, boxes, scores and classes of TensorRT's EfficientNMS, by their shapes and types."""
    whole = {name for name, values in outputs.items() if values.dtype.kind in "iu"}
    boxes = [n for n, v in outputs.items() if v.shape[2:] == (4,) and n not in whole]
    if len(boxes) != 1:
        return []
    shape = outputs[boxes[0]].shape[:2]
    counts = [n for n in whole if outputs[n].shape in ((shape[0], 1), (shape[0],))]
    scores = [n for n, v in outputs.items() if v.shape == shape and n not in whole]
    classes = [n for n in whole if outputs[n].shape == shape and n not in counts]
    return [(*counts, *boxes, *scores, *classes)] if _ones(counts, scores, classes) else []


def _ones(*names: list[str]) -> bool:
    return all(len(each) == 1 for each in names)


def _find_few(*, suppressed: bool) -> Callable[[Outputs, Expected], list[tuple[str, ...]]]:
    """Layout.find of rows of boxes that are not all of an image, with an NMS inside or without."""

    def fits(shape: tuple[int, ...], expected: Expected) -> bool:
        return len(shape) == 3 and shape[2] == 6 and not _all_rows(shape, expected)

    find = each_output(fits)
    return lambda outputs, expected: (
        find(outputs, expected) if expected.suppresses is suppressed else []
    )


LAYOUTS = (
    Layout(
        "detections",
        DETECTION,
        "[N,boxes,6], rows of x1, y1, x2, y2, score, class",
        "outputs",
        each_output(_all_rows),
        _rows_of_boxes,
        READERS["detections"],
    ),
    *(
        _raw(transposed=rows, objectness=factor, normalised=parts, corners=corners)
        for rows, factor, parts, corners in product((False, True), repeat=4)
    ),
    Layout(
        "nms",
        DETECTION,
        "[N,most,6] after an NMS inside, padded with zeros",
        "boxes",
        _find_few(suppressed=True),
        _rows_of_boxes,
        READERS["nms"],
    ),
    Layout(
        "end-to-end",
        DETECTION,
        "[N,most,6] of a one-to-one head, which needs no NMS",
        "one-to-one",
        _find_few(suppressed=False),
        _rows_of_boxes,
        READERS["end-to-end"],
    ),
    Layout(
        "efficient-nms",
        DETECTION,
        "count [N,1], boxes [N,most,4], scores and classes [N,most] after an NMS inside",
        "boxes",
        _find_parts,
        lambda outputs, expected: _are_classes(outputs[3], expected.classes),
        READERS["efficient-nms"],
    ),
)
