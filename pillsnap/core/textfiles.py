"""UTF-8 text and JSON from disk, with errors that name the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from pillsnap.core.errors import PillsnapError
from pillsnap.core.placeholders import find_placeholder
from pillsnap.core.regularfiles import open_regular


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that is too long to be one is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_text(path: Path, error: type[PillsnapError]) -> str:
    """A UTF-8 text file, with or without a byte order mark.

    Raises:
        error: the file cannot be read, is not UTF-8, or something else stands in its place.
    """
    try:
        with open_regular(path) as file:
            data = file.read()
        if standing := find_placeholder(data, path):
            raise error(f"this is {standing.kind}", where=path, hint=standing.hint)
        return data.decode("utf-8-sig")
    except OSError as problem:
        raise error("this file cannot be read", where=path, got=problem.strerror) from None
    except UnicodeDecodeError as problem:
        line = problem.object.count(b"\n", 0, problem.start) + 1
        raise error(
            "this file is not UTF-8",
            where=f"{path}:{line}",
            got=f"byte 0x{problem.object[problem.start]:02x}",
            hint="save it as UTF-8",
        ) from None


def read_json(path: Path, error: type[PillsnapError]) -> Any:
    """A JSON file whose objects name no key twice and whose numbers are finite.

    Raises:
        error: the file cannot be read or is not such JSON.
    """
    try:
        return json.loads(
            read_text(path, error), object_pairs_hook=_unique, parse_constant=_not_finite
        )
    except json.JSONDecodeError as problem:
        where = f"{path}:{problem.lineno}:{problem.colno}"
        raise error("this is not JSON", where=where, got=problem.msg) from None
    except (ValueError, RecursionError) as problem:
        raise error("this is not JSON", where=path, got=problem) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return made


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
