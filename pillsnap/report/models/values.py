"""What the values of the report may be: the words that its models are written in.

Keys are checked whenever a report is built; values are described, for readers and for tests, and
written as they are: a figure outside its bounds must not cost a run of hours its report.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, WithJsonSchema

from pillsnap.config.cells import STAGES


class Part(BaseModel):
    """An object of the report: it has all of its keys and no others."""

    model_config = ConfigDict(extra="forbid")


def one_of(values: tuple[str, ...]) -> WithJsonSchema:
    return WithJsonSchema({"enum": list(values)})


def by_stage(schema: dict[str, Any]) -> None:
    """Turns the schema of a map into that of an object with a key for every stage."""
    value = schema["additionalProperties"]
    schema["properties"] = {stage: value for stage in STAGES}
    schema["required"] = list(STAGES)
    schema["additionalProperties"] = False


Flag = Annotated[bool, SkipValidation]
Integer = Annotated[int, SkipValidation]
Count = Annotated[int, Field(ge=0), SkipValidation]
Natural = Annotated[int, Field(ge=1), SkipValidation]

Number = Annotated[float, SkipValidation]
# Not below 0; null where nothing was measured.
Size = Annotated[float | None, Field(ge=0), SkipValidation]
# A part of 1; null where there is nothing it is a part of.
Rate = Annotated[float | None, Field(ge=0, le=1), SkipValidation]
# Of a rate: the candidate's minus the reference's.
Delta = Annotated[float | None, Field(ge=-1, le=1), SkipValidation]

# A name of a file need not be Unicode: its lone surrogates are no string for pydantic.
Text = Annotated[str, SkipValidation]
Texts = Annotated[list[str], SkipValidation]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$"), SkipValidation]
StageName = Annotated[str, SkipValidation, one_of(STAGES)]
Numbers = Annotated[dict[str, float | None], SkipValidation]
Counts = Annotated[dict[str, Annotated[int, Field(ge=1)]], SkipValidation]
