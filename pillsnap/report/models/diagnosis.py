"""Where and why a candidate differs, as --diagnose finds it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pillsnap.report.models.values import Numbers, Part

Point = Annotated[list[float | None], Field(min_length=2, max_length=2)]


class Place(Part):
    node: str
    op_type: str
    module: str = Field(description="Path of the torch module; empty where the file does not tell")
    bracket: list[str] = Field(description="Nodes of which one is at fault, at most 8 of them")
    bracket_size: int
    relative_error: float | None = Field(
        description="Largest difference over largest value of the node's output, or of its "
        "difference from torch in float64 the root mean squares; null for infinite"
    )


class Layers(Part):
    """The first layer that differs"""

    method: Literal["healthy export", "torch modules"]
    compared: int = Field(description="Tensors that were")
    floor: float | None = Field(description="Relative error beyond which the first place differs")
    places: list[Place] = Field(
        description="Nodes that differ though what feeds them agrees, the first in the graph's "
        "order first"
    )
    curve: list[Point] = Field(
        description="Share of the depth and the largest relative error there"
    )


class Budget(Part):
    """Shapley values of the stages in the final difference"""

    total: float | None
    unit: str = Field(description='Of the total, as in "0.2 boxes an image"')
    percent: Numbers | None = Field(description="By stage; null where nothing differs")


class Tried(Part):
    kind: Literal["decoding", "runtime", "preprocessing", "conversion", "weights", "precision"]
    name: str
    cause: str
    after: Numbers | None
    vanishes: bool
    problem: str | None
    hint: str | None


class Causes(Part):
    """Interventions, up to the first that makes the difference vanish"""

    before: Numbers
    noise: float = Field(
        description="What counts as no difference, in multiples of the noise of healthy exports"
    )
    stated: str | None
    kind: str | None
    hint: str | None = Field(description="The option that avoids what is stated, if there is one")
    in_words: str
    tried: list[Tried]


class Diagnosis(Part):
    samples: list[str] = Field(description="Ids of the samples that were looked at")
    layers: Layers | None
    budget: Budget | None
    pipeline: Budget | None = Field(
        description="The same of both stages together: detection, crop, classification; null "
        "without a cell of the other stage"
    )
    causes: Causes | None
    repro: str | None = Field(description="Path of a script that shows the difference")
    problems: list[str] = Field(description="Parts that failed, and why")
    seconds: float = Field(description="Of all parts but pipeline, which two cells share")
