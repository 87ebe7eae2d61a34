"""What a bundle's files must hold before anything is made of it: they may come from anywhere."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from pillsnap.compare.tasks import task_names, task_of
from pillsnap.config.cells import MODES
from pillsnap.core.errors import DataError
from pillsnap.pipeline.transforms import Geometry

_SHARD = re.compile(r"[a-z]+-[a-z]+-[0-9]{1,9}")
_HASH = re.compile(r"[0-9a-f]{64}")

# Of pixels, classes and strides: beyond it arithmetic would need more than the file's own size.
_MOST = 2**31 - 1


def read_cells(content: Mapping[str, Any], path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The cells of a manifest by stage and mode, each with stage, mode, shards, sha256, transform
    (ClassifyTransform or LetterboxTransform), strides and reference.

    Raises:
        DataError: one is missing, twice there, or of another type.
    """
    require = _requirer(path)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    cells = content.get("cells")
    require("cells", cells, isinstance(cells, list) and cells, "a list of cells")
    for number, cell in enumerate(cells or ()):
        at = f"cells[{number}]"
        require(at, cell, isinstance(cell, dict), "an object")
        stage, mode = cell.get("stage"), cell.get("mode")
        require(f"{at}.stage", stage, stage in task_names(), " or ".join(task_names()))
        require(f"{at}.mode", mode, mode in MODES, ", ".join(MODES))
        require(at, f"{stage} {mode} again", (stage, mode) not in found, "each cell once")
        shards, hashes = cell.get("shards"), cell.get("sha256")
        named = isinstance(shards, list) and all(_is(_SHARD, name) for name in shards)
        require(f"{at}.shards", shards, named and _are_different(shards), "names of shards")
        hashed = isinstance(hashes, dict) and all(_is(_HASH, each) for each in hashes.values())
        require(f"{at}.sha256", hashes, hashed, "SHA-256 by name of file")
        task = task_of(str(stage))
        strides, reference = cell.get("strides"), cell.get("reference")
        fit = isinstance(strides, list) and all(_is_whole(stride, 1) for stride in strides)
        require(f"{at}.strides", strides, fit, "strides")
        require(f"{at}.reference", reference, _is_reference(reference), "an object of facts")
        found[stage, mode] = {
            **cell,
            "transform": _make(task.transform, cell.get("transform"), f"{at}.transform", path),
            "strides": tuple(strides),
        }
    return found


def check_facts(facts: Any, path: Path) -> list[Geometry]:
    """Check ids, labels, boxes, contents and geometries of a shard; returns the last.

    Raises:
        DataError: they are no lists of one length, or what is in them is not what it should be.
    """
    require = _requirer(path)
    require("", facts, isinstance(facts, dict), "an object")
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "ids": (lambda each: isinstance(each, str) and each != "", "names"),
        "labels": (lambda each: each is None or _is_whole(each, 0), "class indices"),
        "boxes": (_are_boxes, "boxes of class, centre and size in parts of the image"),
        "contents": (lambda each: _is(_HASH, each), "SHA-256"),
        "geometries": (lambda each: isinstance(each, dict), "objects"),
    }
    for name, (check, expected) in checks.items():
        values = facts.get(name)
        require(name, values, isinstance(values, list), f"a list of {expected}")
        for number, each in enumerate(values):
            require(f"{name}[{number}]", each, check(each), expected)
    count = len(facts["ids"])
    for name in checks:
        fits = len(facts[name]) == count or (name == "geometries" and not facts[name])
        require(name, f"{len(facts[name])} values", fits, f"{count}")
    require("ids", "none, or one twice", _are_different(facts["ids"]), "each once")
    made = [
        _make(Geometry, each, f"geometries[{number}]", path)
        for number, each in enumerate(facts["geometries"])
    ]
    for number, each in enumerate(made):
        good = each.ratio > 0 and each.left >= 0 <= each.top and each.width > 0 < each.height
        require(f"geometries[{number}]", facts["geometries"][number], good, "sizes above 0")
    return made


def _make(kind: type[Any], values: Any, at: str, path: Path) -> Any:
    """A dataclass out of JSON, every value of the type that it declares."""
    require = _requirer(path)
    names = {field.name for field in fields(kind)}
    require(at, values, isinstance(values, dict) and {*values} <= names, ", ".join(sorted(names)))
    hints = get_type_hints(kind)
    for name, value in values.items():
        hint = hints[name]
        good = {
            int: _is_whole(value, 0),
            float: _is_finite(value),
            str: isinstance(value, str),
        }.get(hint, isinstance(value, list) and all(map(_is_finite, value)))
        require(f"{at}.{name}", value, good, getattr(hint, "__name__", "numbers"))
    made: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return kind(**made)
    except (TypeError, ValueError) as error:
        raise DataError("a golden bundle is damaged", where=f"{path}: {at}", got=error) from error


def _requirer(path: Path) -> Callable[[str, object, object, str], None]:
    def require(at: str, got: object, good: object, expected: str) -> None:
        if not good:
            raise DataError(
                "a golden bundle is damaged",
                where=f"{path}: {at}" if at else path,
                got=reprlib.repr(got),
                expected=expected,
                hint="copy the whole folder again, or write it with --save-reference DIR",
            )

    return require


def _is_reference(value: object) -> bool:
    """What an engine says of itself: texts and numbers, those of the report as it has them."""
    if not isinstance(value, dict):
        return False
    for fact in value.values():
        parts = fact if isinstance(fact, list) else [fact]
        if not all(isinstance(part, str | int | float | None) for part in parts):
            return False
    params, checkpoint = value.get("params_million"), value.get("checkpoint_sha256")
    texts = [value.get(name) for name in ("checkpoint", "checkpoint_entry", "checkpoint_choice")]
    notes = value.get("notes", [])
    return (
        (params is None or _is_finite(params))
        and (checkpoint is None or _is(_HASH, checkpoint))
        and all(text is None or isinstance(text, str) for text in texts)
        and isinstance(notes, list)
        and all(isinstance(note, str) for note in notes)
    )


def _are_boxes(rows: object) -> bool:
    return rows is None or (
        isinstance(rows, list)
        and all(
            isinstance(row, list)
            and len(row) == 5
            and all(map(_is_finite, row))
            and row[0] == int(row[0]) >= 0
            for row in rows
        )
    )


def _are_different(names: list[str]) -> bool:
    """Whether there are names, and none twice."""
    return 0 < len({*names}) == len(names)


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_whole(value: object, least: int) -> bool:
    return type(value) is int and least <= value <= _MOST


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST
