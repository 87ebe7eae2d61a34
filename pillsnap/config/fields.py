"""What a field of a configuration accepts, by its annotation and its bound."""

from __future__ import annotations

import errno
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

Range = tuple[float | None, float | None]

# As long as names are that a run makes below a folder.
_BELOW = "x" * 100


def Bound(lo: float | None = None, hi: float | None = None) -> Mapping[str, Any]:
    """Field metadata: the least and the greatest number allowed, both included; None is open."""
    return types.MappingProxyType({"bound": (lo, hi)})


def describe(hint: Any, bound: Range = (None, None)) -> str:
    """What an annotation accepts, in words."""
    args = get_args(hint)
    if is_optional(hint):
        return f"{describe(args[0], bound)}, or null"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, args))
    if get_origin(hint) is tuple:
        count = "" if args[-1] is Ellipsis else f" of {len(args)}"
        return f"a list{count}, each {describe(args[0], bound)}"
    if is_dataclass(hint):
        return "a mapping with the keys " + ", ".join(keys_of(hint))
    names = {bool: "true or false", int: "a whole number", float: "a finite number", Path: "a path"}
    lo, hi = bound
    span = "" if lo is None else f" of at least {lo}" if hi is None else f" from {lo} to {hi}"
    return names.get(hint, "text") + span


def is_optional(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def keys_of(cls: Any) -> dict[str, Field[Any]]:
    return {item.name: item for item in fields(cls) if not item.metadata.get("internal")}


def bound_of(item: Field[Any]) -> Range:
    bound: Range = item.metadata.get("bound", (None, None))
    return bound


def default_of(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def is_within(number: float, bound: Range) -> bool:
    lo, hi = bound
    return (lo is None or number >= lo) and (hi is None or number <= hi)


def is_too_long(path: Path) -> bool:
    """Whether the system refuses a path for its length, or those of what a run writes below it."""
    try:
        (path / _BELOW).lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False
