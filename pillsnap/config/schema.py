"""config.schema.json, from which editors complete and check config.yaml.

    python -m pillsnap.config.schema > pillsnap/config/config.schema.json

Types, bounds, choices and defaults are those of the models, descriptions are the comments of the
repository's config.yaml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pillsnap.config.settings import Config

DOCUMENTED = Path(__file__).parents[2] / "config.yaml"


def build_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a config file.

    It takes what the parser takes, but for what JSON does not tell apart (1.0 and 1, null and an
    empty section), for FILL and for rules between keys.
    """
    schema = TypeAdapter(Config).json_schema()
    for each in (schema, *schema["$defs"].values()):
        each.pop("description", None)  # a docstring, of the code
        if "required" not in each:
            each["type"] = ["object", "null"]  # an empty section is all defaults
        each["properties"] = {
            name: _in_yaml({key: value for key, value in field.items() if key != "title"})
            for name, field in each["properties"].items()
        }
    for limit in schema["$defs"]["Tolerances"]["properties"].values():
        del limit["default"]  # each profile has its own
    for key, _, comment in read_comments():
        *sections, name = key.split(".")
        place = schema
        for section in sections:
            field = place["properties"][section]  # a reference, by itself or beside null
            path = field.get("anyOf", [field])[0]["$ref"]
            place = schema["$defs"][path.rpartition("/")[2]]
        if comment:
            place["properties"][name]["description"] = comment
    schema["$defs"]["Variable"] = {"type": "string", "pattern": r"\$\{"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def read_comments() -> Iterator[tuple[str, str, str]]:
    """Dotted key, value and the comment directly above it of each line of config.yaml."""
    above: list[str] = []
    comment: list[str] = []
    for line in DOCUMENTED.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"( *)(\w+):(.*)", line)
        if match is None:
            comment = [*comment, line.strip(" #")] if line.strip() else []
            continue
        above = [*above[: len(match[1]) // 2], match[2]]
        yield ".".join(above), match[3].strip(), " ".join(comment)
        comment = []


def _in_yaml(field: dict[str, Any]) -> dict[str, Any]:
    """A field's schema, with variables for what is no text, and no empty text."""
    if isinstance(field.get("default"), dict) and not field["$ref"].endswith("/Tolerances"):
        del field["default"]  # it is that of its keys
    if "anyOf" in field:
        kinds = [_in_yaml(kind) for kind in field["anyOf"]]
        return {**field, "anyOf": [each for kind in kinds for each in kind.get("anyOf", [kind])]}
    if "items" in field:
        field["items"] = _in_yaml(field["items"])
    if "prefixItems" in field:
        field["prefixItems"] = [_in_yaml(each) for each in field["prefixItems"]]
    if field.get("type", "array") in ("array", "null"):
        return field
    if field["type"] == "string" and not field.keys() & {"enum", "const"}:
        return {**field, "minLength": 1}
    about = {"default": field.pop("default")} if "default" in field else {}
    return {"anyOf": [field, {"$ref": "#/$defs/Variable"}], **about}


if __name__ == "__main__":
    print(json.dumps(build_schema(), indent=2, ensure_ascii=False))
