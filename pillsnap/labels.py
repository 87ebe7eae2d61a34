"""Ground-truth boxes of scenes: YOLO .txt files and COCO .json files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

from pillsnap.errors import DataError
from pillsnap.textfiles import read_json, read_text

T = TypeVar("T")

_SLACK = 1e-6
"""How far rounding may push a coordinate out of [0, 1]."""


@dataclass(frozen=True)
class Box:
    """A pill: its class, centre and size as fractions of the image's width and height, 0 to 1."""

    class_id: int
    cx: float
    cy: float
    w: float
    h: float


def read_yolo_boxes(path: Path, num_classes: int) -> tuple[Box, ...]:
    """Boxes of one image from lines of `class cx cy w h`; an empty file is a scene without pills.

    Raises:
        DataError: the file cannot be read, or a line is broken; names file, line and content.
    """
    boxes = []
    for number, line in enumerate(read_text(path, DataError).split("\n"), start=1):
        words = line.split()
        if not words:
            continue
        try:
            if len(words) != 5:
                raise ValueError(f"{len(words)} values")
            class_id, *place = map(float, words)
            boxes.append(_box(class_id, place, num_classes))
        except ValueError as problem:
            raise DataError(
                f"a broken label line: {problem}",
                where=f"{path}:{number}",
                got=line.strip(),
                expected=f"class cx cy w h, as parts of the image; {_expected(num_classes)}",
                hint="mend the line; detection.num_classes says how many classes there are",
            ) from None
    return tuple(boxes)


def read_coco_boxes(path: Path, num_classes: int) -> dict[str, tuple[Box, ...]]:
    """Boxes by `file_name` of each image in a COCO file.

    Class ids are the places of the categories in the order of their ids, so the usual 1, 2, 3
    become 0, 1, 2. Width and height of an image are those after its EXIF rotation.

    Raises:
        DataError: the file cannot be read, or an entry is broken; names file, entry and content.
    """
    images, categories, annotations = _coco_tables(path)
    class_ids = {
        number: place
        for place, number in enumerate(sorted(_id(path, "categories", it) for it in categories))
    }
    sizes: dict[int, tuple[str, float, float]] = {}
    boxes: dict[str, list[Box]] = {}
    for entry in images:
        number, name = _id(path, "images", entry), entry.get("file_name")
        width, height = (_pixels(entry.get(key)) for key in ("width", "height"))
        if not isinstance(name, str) or not name or width is None or height is None:
            _refuse(path, "images", entry, "file_name, and width and height in pixels")
        name = PurePosixPath(name).as_posix()
        if name in boxes or number in sizes:
            _refuse(path, "images", entry, "each file_name and each id once")
        sizes[number] = (name, width, height)
        boxes[name] = []
    for entry in annotations:
        name, width, height = _look_up(path, entry, "image_id", sizes)
        class_id = _look_up(path, entry, "category_id", class_ids)
        if entry.get("iscrowd"):
            _refuse(path, "annotations", entry, "no crowd regions: one box for each pill")
        try:
            x, y, w, h = map(float, entry["bbox"])
            place = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
            boxes[name].append(_box(float(class_id), place, num_classes))
        except (KeyError, TypeError, ValueError, OverflowError):
            expected = "bbox [x, y, width, height] in pixels within the image; "
            _refuse(path, "annotations", entry, expected + _expected(num_classes))
    return {name: tuple(found) for name, found in boxes.items()}


def _box(class_id: float, place: list[float], num_classes: int) -> Box:
    """Checked and clipped to [0, 1]; a ValueError says what is wrong."""
    if not (class_id.is_integer() and 0 <= class_id < num_classes):
        raise ValueError(f"class {class_id:g} of {num_classes} classes")
    for value in place:
        if not -_SLACK < value < 1 + _SLACK:  # nan fails it too
            raise ValueError(f"{value:g} is not between 0 and 1")
    cx, cy, w, h = (min(max(value, 0.0), 1.0) for value in place)
    if w == 0 or h == 0:
        raise ValueError("a box without area")
    return Box(int(class_id), cx, cy, w, h)


def _expected(num_classes: int) -> str:
    return f"class 0 to {num_classes - 1}, place and size within the image"


def _coco_tables(path: Path) -> tuple[list[dict[str, Any]], ...]:
    """images, categories and annotations."""
    content = read_json(path, DataError)
    tables = []
    for name in ("images", "categories", "annotations"):
        table = content.get(name) if isinstance(content, dict) else None
        if not isinstance(table, list) or not all(isinstance(entry, dict) for entry in table):
            raise DataError(
                f"no COCO file: it has no list of {name}",
                where=path,
                expected="an object with the lists images, annotations and categories",
            )
        tables.append(table)
    return tuple(tables)


def _id(path: Path, table: str, entry: dict[str, Any]) -> int:
    number = entry.get("id")
    if type(number) is not int:
        _refuse(path, table, entry, "a whole number as id")
    return number


def _pixels(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e9 else None


def _look_up(path: Path, entry: dict[str, Any], key: str, known: dict[int, T]) -> T:
    number = entry.get(key)
    if type(number) is not int or number not in known:
        _refuse(path, "annotations", entry, f"a known {key}")
    return known[number]


def _refuse(path: Path, table: str, entry: dict[str, Any], expected: str) -> NoReturn:
    raise DataError(
        f"a broken entry of {table}",
        where=f"{path}: {table}",
        got=str({key: entry[key] for key in entry if key != "segmentation"})[:200],
        expected=expected,
    )
