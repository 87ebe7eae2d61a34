"""report.schema.json, made from the models: `python -m pillsnap.report.schema` writes it anew."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import ModelSchema

from pillsnap.core.files import write_atomic
from pillsnap.report import SCHEMA_PATH
from pillsnap.report.models import Report


class _Schema(GenerateJsonSchema):
    """JSON Schema 2020-12 without titles that repeat names, and with definitions in lower case."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: ModelSchema) -> dict[str, Any]:
        made = super().model_schema(schema)
        if made.get("title") == schema["cls"].__name__:
            del made["title"]
        if "description" in made:
            made["description"] = " ".join(made["description"].split())
        return made

    def normalize_name(self, name: str) -> str:
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", super().normalize_name(name)).lower()


def make_schema() -> dict[str, Any]:
    """The schema of the report as plain builtins."""
    return {
        "$schema": _Schema.schema_dialect,
        "$id": "urn:pillsnap:export-report:1",
        **Report.model_json_schema(schema_generator=_Schema),
    }


if __name__ == "__main__":
    write_atomic(SCHEMA_PATH, f"{json.dumps(make_schema(), indent=2)}\n".encode())
