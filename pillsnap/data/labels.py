"""Ground-truth boxes of scenes in YOLO's .txt files, read as ultralytics reads them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from pillsnap.core.errors import DataError
from pillsnap.core.textfiles import read_text

# How far ultralytics lets coordinates lie outside of [0, 1].
_SLACK = 0.01


@dataclass(frozen=True)
class Box:
    """A pill: its class, centre and size as fractions of the image's width and height.

    They are what the label says: a box may stand out of the image by a hundredth of its side.
    """

    class_id: int
    cx: float
    cy: float
    w: float
    h: float


@dataclass(frozen=True)
class LabelFile:
    """The boxes of one image: `polygons` of them stood there as polygons, and `copies` lines are
    left out that say what one before says."""

    boxes: tuple[Box, ...] = ()
    polygons: int = 0
    copies: int = 0


def read_yolo_boxes(path: Path, num_classes: int, *, single_cls: bool = False) -> LabelFile:
    """Boxes of one image from lines of `class cx cy w h`, or of `class x1 y1 x2 y2 …`, a polygon
    that becomes the box around it; an empty file is a scene without pills.

    Args:
        single_cls: every class counts as class 0, as in a training with single_cls=True.

    Raises:
        DataError: the file cannot be read, or a line is broken; names file, line and content.
    """
    text = read_text(path, DataError)
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1)]
    rows = [(number, words) for number, words in lines if words]
    # As for ultralytics a file holds the one or the other.
    polygons = any(len(words) > 6 for _, words in rows)
    found: dict[tuple[float, ...], Box] = {}
    for number, words in rows:
        try:
            values = _numbers(words, polygons)
            box = _box_of(values, polygons, None if single_cls else num_classes)
            # Lines are the same where float32, in which training holds them, makes them so.
            kind = f"{len(values)}f"
            found.setdefault(struct.unpack(kind, struct.pack(kind, *values)), box)
        except (ValueError, OverflowError) as problem:
            raise DataError(
                f"a broken label line: {problem}",
                where=f"{path}:{number}",
                got=" ".join(words)[:200],
                expected=(
                    "class cx cy w h or class x1 y1 x2 y2 x3 y3 …, as parts of the image; "
                    f"class 0 to {num_classes - 1}"
                ),
                hint=_hint(num_classes),
            ) from None
    boxes = tuple(found.values())
    return LabelFile(boxes, len(boxes) if polygons else 0, len(rows) - len(boxes))


def _numbers(words: list[str], polygon: bool) -> list[float]:
    """The values of a line; a ValueError says what is wrong."""
    if polygon and len(words) == 5:
        raise ValueError("a box among polygons")
    if polygon and (len(words) < 3 or len(words) % 2 == 0):
        raise ValueError(f"{len(words)} values, not a class and the x and y of points")
    if not polygon and len(words) != 5:
        raise ValueError(f"{len(words)} values")
    return list(map(float, words))


def _box_of(values: list[float], polygon: bool, num_classes: int | None) -> Box:
    """The box of a line; a ValueError says what is wrong."""
    class_id, *place = values
    if polygon:
        if not all(map(math.isfinite, place)):  # min and max pass over nan
            raise ValueError("a value that is not finite")
        xs, ys = place[0::2], place[1::2]
        x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
        place = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    if not (class_id.is_integer() and class_id >= 0):
        raise ValueError(f"class {class_id:g}")
    if num_classes is not None and class_id >= num_classes:
        raise ValueError(f"class {class_id:g} of {num_classes} classes")
    for value in place:
        if not -_SLACK <= value <= 1 + _SLACK:  # nan fails it too
            raise ValueError(f"{value:.9g} is not between 0 and 1")
    cx, cy, w, h = place
    if w <= 0 or h <= 0:
        raise ValueError("a box without area")
    return Box(0 if num_classes is None else int(class_id), cx, cy, w, h)


def _hint(num_classes: int) -> str:
    if num_classes == 1:
        return "mend the line; set data.val.combo.single_cls if training had single_cls=True"
    return "mend the line; detection.num_classes says how many classes there are"
