"""class_map and edi_map: what a mapping code stands for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from pillsnap.core.errors import DataError
from pillsnap.core.textfiles import read_json
from pillsnap.data.spellings import compose


def read_class_map(path: Path) -> dict[str, int]:
    """Class index by class name (mapping_code, composed). Several names may share an index.

    Raises:
        DataError: unreadable, no JSON object, or an index that is no whole number from 0.
    """
    class_map: dict[str, int] = {}
    for name, index in _read_map(path, "{mapping_code: class index}"):
        if type(index) is not int or index < 0:
            _refuse(path, name, index, "a whole number from 0")
        class_map[name] = index
    return class_map


def read_edi_map(path: Path) -> dict[str, str]:
    """EDI code by class name (mapping_code, composed).

    Raises:
        DataError: unreadable, no JSON object, or a code that is no text.
    """
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
