"""Ground-truth boxes of scenes in a COCO .json file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

from pillsnap.core.errors import DataError
from pillsnap.core.textfiles import read_json
from pillsnap.data.categories import Categories
from pillsnap.data.labels import Box

T = TypeVar("T")

# How far rounding may push a coordinate out of [0, 1].
_SLACK = 1e-6


@dataclass
class CocoImage:
    """An image of the file: its width and height in pixels, its boxes as keys, and how many
    annotations are left out that say what one before says. A box's class is the place of its
    category."""

    size: tuple[float, float]
    boxes: dict[Box, None] = field(default_factory=dict)
    copies: int = 0


def read_coco_boxes(path: Path) -> tuple[dict[str, CocoImage], Categories]:
    """Images by `file_name`, and the categories in the order of their ids.

    Width and height of an image are those after its EXIF rotation.

    Raises:
        DataError: the file cannot be read, or an entry is broken; names file, entry and content.
    """
    entries, categories, annotations = _coco_tables(path)
    ordered = sorted(categories, key=lambda entry: _id(path, "categories", entry))
    places = {_id(path, "categories", entry): place for place, entry in enumerate(ordered)}
    if len(places) < len(ordered):
        _refuse(path, "categories", ordered[len(places)], "each id once")
    images: dict[str, CocoImage] = {}
    by_id: dict[int, CocoImage] = {}
    for entry in entries:
        number, name = _id(path, "images", entry), entry.get("file_name")
        width, height = (_pixels(entry.get(key)) for key in ("width", "height"))
        if not isinstance(name, str) or not name or width is None or height is None:
            _refuse(path, "images", entry, "file_name, and width and height in pixels")
        name = PurePosixPath(name).as_posix()
        if name in images or number in by_id:
            _refuse(path, "images", entry, "each file_name and each id once")
        images[name] = by_id[number] = CocoImage((width, height))
    for entry in annotations:
        image = _look_up(path, entry, "image_id", by_id)
        place = _look_up(path, entry, "category_id", places)
        if entry.get("iscrowd"):
            _refuse(path, "annotations", entry, "no crowd regions: one box for each pill")
        try:
            box = _box(place, entry["bbox"], image.size)
        except (KeyError, TypeError, ValueError, OverflowError):
            expected = "bbox [x, y, width, height] in pixels within the image"
            _refuse(path, "annotations", entry, expected)
        image.copies += box in image.boxes
        image.boxes[box] = None
    used = {box.class_id for image in images.values() for box in image.boxes}
    names, above = (
        tuple(str(entry.get(key, "")) for entry in ordered) for key in ("name", "supercategory")
    )
    return images, Categories(path, names, above, frozenset(used))


def _box(place: int, bbox: Any, size: tuple[float, float]) -> Box:
    """Clipped to [0, 1]; a ValueError where it is out of the image or has no area."""
    x, y, w, h = map(float, bbox)
    width, height = size
    parts = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    if not all(-_SLACK < part < 1 + _SLACK for part in parts):  # nan fails it too
        raise ValueError(parts)
    cx, cy, w, h = (min(max(part, 0.0), 1.0) for part in parts)
    if w == 0 or h == 0:
        raise ValueError(parts)
    return Box(place, cx, cy, w, h)


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
