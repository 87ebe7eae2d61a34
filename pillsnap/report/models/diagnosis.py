"""Where and why a candidate differs, as --diagnose finds it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SkipValidation

from pillsnap.report.models.values import Flag, Integer, Number, Numbers, Part, Text, Texts

Point = Annotated[list[float | None], Field(min_length=2, max_length=2), SkipValidation]


class Place(Part):
    node: Text
    op_type: Text
    module: Text = Field(description="Path of the torch module; empty where the file does not tell")
    bracket: Texts = Field(description="Nodes of which one is at fault, at most 8 of them")
    bracket_size: Integer
    relative_error: Number | None = Field(
        description="Largest difference over largest value of the node's output; null for infinite"
    )


class Layers(Part):
    """The first layer that differs"""

    method: Annotated[Literal["healthy export", "torch modules"], SkipValidation]
    compared: Integer = Field(description="Tensors that were")
    floor: Number | None = Field(description="Relative error beyond which the first place differs")
    places: list[Place] = Field(
        description="Nodes that differ though what feeds them agrees, the first in the graph's "
        "order first"
    )
    curve: list[Point] = Field(
        description="Share of the depth and the largest relative error there"
    )


class Budget(Part):
    """Shapley values of the stages in the final difference"""

    total: Number | None
    percent: Numbers | None = Field(description="By stage; null where nothing differs")


class Tried(Part):
    kind: Annotated[
        Literal["decoding", "runtime", "preprocessing", "conversion", "weights", "precision"],
        SkipValidation,
    ]
    name: Text
    cause: Text
    after: Numbers | None
    vanishes: Flag
    problem: Text | None
    hint: Text | None


class Causes(Part):
    """Interventions, up to the first that makes the difference vanish"""

    before: Numbers
    noise: Number = Field(
        description="What counts as no difference, in multiples of the noise of healthy exports"
    )
    stated: Text | None
    kind: Text | None
    hint: Text | None = Field(description="The option that avoids what is stated, if there is one")
    in_words: Text
    tried: list[Tried]


class Diagnosis(Part):
    samples: Texts = Field(description="Ids of the samples that were looked at")
    layers: Layers | None
    budget: Budget | None
    pipeline: Budget | None = Field(
        description="The same of both stages together: detection, crop, classification; null "
        "without a cell of the other stage"
    )
    causes: Causes | None
    repro: Text | None = Field(description="Path of a script that shows the difference")
    problems: Texts = Field(description="Parts that failed, and why")
    seconds: Number = Field(description="Of all parts but pipeline, which two cells share")
