"""What the values of the report may be: the words that its models are written in.

Keys are checked whenever a report is built; values are described, for readers and for tests, and
written as they are: a figure outside its bounds must not cost a run of hours its report, and a name
of a file need not be Unicode (it is written with its bytes escaped).
"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, WithJsonSchema

from pillsnap.config.cells import STAGES


class Part(BaseModel):
    """An object of the report: it has all of its keys and no others. Values that hold no Part are
    not validated."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        skip: Any = SkipValidation()  # type: ignore[type-arg]
        for field in cls.model_fields.values():
            if not _holds_part(field.annotation) and skip not in field.metadata:  # not inherited
                field.metadata.append(skip)


def _holds_part(hint: Any) -> bool:
    is_part = isinstance(hint, type) and issubclass(hint, BaseModel)
    return is_part or any(map(_holds_part, get_args(hint)))


def one_of(values: tuple[str, ...]) -> WithJsonSchema:
    return WithJsonSchema({"enum": list(values)})


def by_stage(schema: dict[str, Any]) -> None:
    """Turns the schema of a map into that of an object with a key for every stage."""
    value = schema["additionalProperties"]
    schema["properties"] = {stage: value for stage in STAGES}
    schema["required"] = list(STAGES)
    schema["additionalProperties"] = False


Count = Annotated[int, Field(ge=0)]
Natural = Annotated[int, Field(ge=1)]

# Not below 0; null where nothing was measured.
Size = Annotated[float | None, Field(ge=0)]
# A part of 1; null where there is nothing it is a part of.
Rate = Annotated[float | None, Field(ge=0, le=1)]
# Of a rate: the candidate's minus the reference's.
Delta = Annotated[float | None, Field(ge=-1, le=1)]

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
StageName = Annotated[str, one_of(STAGES)]
Numbers = dict[str, float | None]
Counts = dict[str, Annotated[int, Field(ge=1)]]
