"""class_map and edi_map: what a mapping code stands for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NoReturn

from pillsnap.core.errors import DataError
from pillsnap.core.textfiles import read_json
from pillsnap.data.listing import class_folders
from pillsnap.data.spellings import compose


def read_class_map(path: Path, num_classes: int) -> dict[str, int]:
    """Class index by class name (mapping_code, composed); raises DataError for an unreadable file,
    no JSON object, an index that is none of the head's classes, or one that two names have."""
    names: dict[int, str] = {}
    for name, index in _read_map(path, "{mapping_code: class index}"):
        if type(index) is not int or index < 0:
            _refuse(path, name, index, "a whole number from 0")
        if index >= num_classes:
            raise DataError(
                "a class index beyond the classifier's head",
                where=f"{path}: {name}",
                got=index,
                expected=f"0 to {num_classes - 1}, as classification.num_classes is {num_classes}",
            )
        if index in names:
            raise DataError(
                "two codes have one class index: photos of both would be answered with one of them",
                where=f"{path}: {name}",
                got=f"{names[index]} and {name} have index {index}",
                expected="each index once",
                hint="give each code the index it was trained with; where training took both for "
                "one class, keep the code that is to be answered, and name the photos by it",
            )
        names[index] = name
    return {name: index for index, name in names.items()}


def number_folders(folder: Path, num_classes: int) -> dict[str, int]:
    """Class index by class name (composed) where no map says it: class folders in alphabetical
    order, as timm and torchvision number them; errors are class_folders', and DataError where
    there are not as many as the head has classes."""
    names = class_folders(folder)
    if len(names) != num_classes:
        raise DataError(
            f"{len(names):,} class folders and no class map, config says {num_classes:,} classes",
            where=folder,
            got=", ".join(names[:5]) + (" …" if names[5:] else ""),
            expected=f"{num_classes:,} class folders (classification.num_classes)",
            hint="give data.class_map, a JSON file {folder: class index}: where a class has no "
            "folder, the order of the others does not tell their indices",
        )
    return {compose(name): index for index, name in enumerate(names)}


def without_code(coded: Collection[int], num_classes: int) -> str | None:
    """In words, the classes of a head that are not among those with a code; None for none."""
    left = sorted(set(range(num_classes)).difference(coded))
    if not left:
        return None
    shown = ", ".join(map(str, left[:8])) + (f" and {len(left) - 8:,} more" if left[8:] else "")
    return (
        f"class_map has no code for {len(left):,} of {num_classes:,} classes: {shown}; infer and "
        "the service answer them with code and edi_code null, and say so in edi_reason"
    )


def read_edi_map(path: Path) -> dict[str, str]:
    """EDI code by class name (mapping_code, composed); raises DataError for an unreadable file, no
    JSON object, or a code that is no text."""
    edi_map: dict[str, str] = {}
    for name, code in _read_map(path, "{mapping_code: edi_code}"):
        if not isinstance(code, str) or not code:
            _refuse(path, name, code, "text in quotes (a number would lose its leading zeros)")
        edi_map[name] = code
    return edi_map


def _read_map(path: Path, expected: str) -> Iterable[tuple[str, Any]]:
    content = read_json(path, DataError)
    if not isinstance(content, dict) or not content:
        raise DataError("this file holds no map", where=path, expected=f"JSON {expected}")
    composed: dict[str, Any] = {}
    for name, value in content.items():
        if composed.setdefault(compose(name), value) != value:
            raise DataError(
                "two names look the same and differ in their Unicode form alone (NFC, NFD)",
                where=f"{path}: {name}",
                got=json.dumps(value)[:200],
                expected=json.dumps(composed[compose(name)])[:200],
            )
    return composed.items()


def _refuse(path: Path, name: str, value: object, expected: str) -> NoReturn:
    shown = json.dumps(value)[:200]
    raise DataError("a bad value in the map", where=f"{path}: {name}", got=shown, expected=expected)
