"""Layouts of detectors: boxes before NMS in every convention, and after an NMS inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from pillsnap.config.cells import DETECTION
from pillsnap.engines.layouts.conventions import (
    are_classes,
    are_small,
    finite,
    raw,
    rows_of_boxes,
)
from pillsnap.engines.layouts.records import (
    Array,
    Expected,
    Layout,
    Outputs,
    each_output,
)
from pillsnap.pipeline.layouts import READERS


def _all_rows(shape: tuple[int, ...], expected: Expected) -> bool:
    """Whether an output is [N,boxes,6] before NMS: where their number is not known, one of a file
    with nothing that leaves boxes out."""
    if len(shape) != 3 or shape[2] != 6:
        return False
    if expected.boxes is None or expected.one_to_one:
        return not (expected.suppresses or expected.one_to_one)
    return shape[1] == expected.boxes


def _rows_in_pixels(outputs: Sequence[Array], expected: Expected) -> bool:
    """The same, where boxes that are parts of the image are of another layout."""
    small = expected.boxes is None and are_small(finite(outputs[0])[:, :4])
    return rows_of_boxes(outputs, expected) and not small


def _rows_in_parts(outputs: Sequence[Array], expected: Expected) -> bool:
    return rows_of_boxes(outputs, expected) and are_small(finite(outputs[0])[:, :4])


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


def _find_queries(outputs: Outputs, expected: Expected) -> list[tuple[str, ...]]:
    """Layout.find of rows of queries, which a detector with cells has none of."""
    found = each_output(lambda shape, _: len(shape) == 3 and shape[2] == 6)
    known = expected.boxes is not None or expected.suppresses or expected.one_to_one
    return [] if known else found(outputs, expected)


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
        _rows_in_pixels,
        READERS["detections"],
    ),
    *(
        raw(transposed=rows, objectness=factor, normalised=parts, corners=corners)
        for rows, factor, parts, corners in product((False, True), repeat=4)
    ),
    Layout(
        "nms",
        DETECTION,
        "[N,most,6] after an NMS inside, padded with zeros",
        "boxes",
        _find_few(suppressed=True),
        rows_of_boxes,
        READERS["nms"],
    ),
    Layout(
        "end-to-end",
        DETECTION,
        "[N,most,6] of a one-to-one head, which needs no NMS",
        "one-to-one",
        _find_few(suppressed=False),
        rows_of_boxes,
        READERS["end-to-end"],
    ),
    Layout(
        "queries",
        DETECTION,
        "[N,most,6] of an RT-DETR, rows of centre and size in 0..1, score, class",
        "one-to-one",
        _find_queries,
        _rows_in_parts,
        READERS["queries"],
    ),
    Layout(
        "efficient-nms",
        DETECTION,
        "count [N,1], boxes [N,most,4], scores and classes [N,most] after an NMS inside",
        "boxes",
        _find_parts,
        lambda outputs, expected: are_classes(outputs[3], expected.classes),
        READERS["efficient-nms"],
    ),
)
