"""What the fields of a configuration accept: in types, and in words."""

from __future__ import annotations

import errno
import re
import types
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml  # type: ignore[import-untyped]
from pydantic import ConfigDict, Field, TypeAdapter

from pillsnap.core.localcopies import Origin
from pillsnap.core.remote import RemotePath
from pillsnap.core.urls import is_url

# No "1" for 1, no true for 1, no key that there is not.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]

# A value that is still to be written, as `pillsnap init` leaves it.
FILL = "FILL"

# Keys whose files may lie elsewhere.
_ONLY_READ = re.compile(r"data\.|(detection|classification)\.checkpoint$")

# As long as names are that a run makes below a folder.
_BELOW = "x" * 100

_WORDS = {"boolean": "true or false", "integer": "a whole number", "number": "a finite number"}
_WORDS["null"] = "null"


def choices_behind(node: yaml.Node) -> str:
    """What the comment behind a FILL says, "" without one."""
    mark = node.end_mark
    line, _, _ = str(mark.buffer)[mark.pointer :].partition("\n")
    return line.partition(f"{FILL}: ")[2].rstrip("\0")


def describe(hint: Any) -> str:
    """What a type accepts, in words: those of its JSON schema, as editors see it."""
    schema = TypeAdapter(hint).json_schema()
    return _words(schema, schema.get("$defs", {}))


def _words(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return ", or ".join(_words(each, defs) for each in schema["anyOf"])
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema["type"] == "object":
        return "a mapping with the keys " + ", ".join(schema["properties"])
    if schema["type"] == "array":
        elements = schema.get("prefixItems", [])
        count = f" of {len(elements)}" if elements else ""
        return f"a list{count}, each {_words(elements[0] if elements else schema['items'], defs)}"
    lo, hi = schema.get("minimum"), schema.get("maximum")
    span = "" if lo is None else f" of at least {lo}" if hi is None else f" from {lo} to {hi}"
    text = "a path" if schema.get("format") == "path" else "text"
    text += "".join(f" such as {example}" for example in schema.get("examples", []))
    return _WORDS.get(schema["type"], text) + span


def add_short_form(schema: dict[str, Any]) -> None:
    """To the schema of a section with SHORT: the path that may stand for a mapping of that key."""
    schema["anyOf"].insert(1, {"type": "string", "format": "path"})


def is_optional(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def without_null(hint: Any) -> Any:
    """X of X | None, and of X."""
    return get_args(hint)[0] if is_optional(hint) else hint


def keys_of(cls: Any) -> list[str]:
    """Names of the fields that are keys: those with the metadata {"internal": True} are none."""
    return [item.name for item in fields(cls) if not item.metadata.get("internal")]


def path_of(text: str, key: str, folder: Path, place: str) -> Path:
    """A path below `folder`, or of a URL; ValueError says why it is none.

    Args:
        place: where the key stands.
    """
    if is_url(text):
        if _ONLY_READ.match(key) is None:
            raise ValueError("only data and checkpoints may be URLs: what a run writes lies here")
        return RemotePath.at(text, Origin(place))
    if _is_too_long(folder / text):
        raise ValueError("the path is too long: shorten it")
    return folder / text


def _is_too_long(path: Path) -> bool:
    """Whether the system refuses a path for its length, or those of what a run writes below it."""
    try:
        (path / _BELOW).lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False
