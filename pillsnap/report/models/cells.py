"""A cell of the report: what was compared with what, and all that was found."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import Field, GetPydanticSchema, SkipValidation, ValidationInfo, field_validator

from pillsnap.compare.verdict import VerdictName
from pillsnap.config.cells import MODES, PRECISIONS
from pillsnap.config.figures import FIGURES, PROFILES
from pillsnap.report.models.diagnosis import Diagnosis
from pillsnap.report.models.execution import Batching, Execution, Layout, Performance
from pillsnap.report.models.figures import METRICS, Exactness
from pillsnap.report.models.graphs import Graph
from pillsnap.report.models.sensitivity import Sensitivity
from pillsnap.report.models.values import Count, Natural, Numbers, Part, Rate, StageName, one_of

Nothing = Annotated[dict[str, Any], Field(max_length=0)]

# Of any task: what one adds from outside is no part of the schema.
Metrics = Annotated[
    dict[str, Any],
    GetPydanticSchema(
        lambda _, handler: handler.generate_schema(reduce(or_, (*METRICS.values(), Nothing)))
    ),
]


class Certified(Part):
    certified_upper: Rate = Field(
        description="One-sided 95 % bound: Clopper-Pearson for rates, a paired bootstrap over "
        "images for the loss of mAP; null without trials"
    )
    tolerance: float | None
    certifies: bool | None = Field(
        description="The bound is within the tolerance; null where that is null"
    )
    trials: Count = Field(
        description="Samples, boxes or, of mAP, images; copies of an image count once"
    )
    failures: Count | None = Field(description="null for mAP")
    samples_needed: Natural | None = Field(
        description="Fewest trials that would, with no further failure; null where none do"
    )


class Breach(Part):
    figure: str
    value: float | None = Field(description="Of an mAP delta the loss: reference minus candidate")
    limit: float
    where: str


class Quantized(Part):
    """How the file of lower precision was made; null for float32 and for files made elsewhere"""

    precision: Literal["fp16", "int8"]
    method: Literal["", "static", "dynamic", "auto", "nncf"]
    size_bytes: Natural
    nodes_low: Count = Field(
        description="Nodes with weights, or of matrix products, that run in fewer bits"
    )
    nodes_float: Count
    float_nodes: list[str]
    freed: list[str] = Field(description="Nodes that method auto left float to hold the profile")
    source_sha256: str
    calibration_sha256: str
    calibration_images: Count
    calibration_method: Literal["minmax", "entropy", "percentile"] | None = Field(
        description="How ranges were found on them; null where none were, or NNCF has its own way"
    )


class Accuracy(Part):
    """How good the reference is; null without figures"""

    figure: Literal["reference_top1", "reference_map_0_5_0_95"]
    found: Rate
    upper: Rate = Field(description="What the sample supports at most, at 95 % confidence")
    expected: Rate = Field(description="What is known of the model; null where nothing is")
    source: Literal["config", "training"] | None
    short: bool | None = Field(
        description="Whether the bound lies below what is known, which makes the cell "
        "inconclusive; null where that is not judged"
    )
    unjudged: str | None = Field(description="Why it is not judged")


class Cell(Part):
    id: str
    stage: StageName
    engine: str
    provider: str = Field(description="One of its engine's")
    precision: Annotated[str, one_of(PRECISIONS)]
    mode: Annotated[str, one_of(MODES)]
    hard: bool = Field(
        description="Whether it is of samples that the reference is less and less sure of, in "
        "place of the population"
    )
    verdict: VerdictName
    profile: Annotated[str, one_of(PROFILES)]
    reason: str | None
    metrics: Metrics = Field(
        description="Figures of the cell by name; empty when nothing was measured"
    )
    tolerances: Numbers = Field(description="The profile in force; null is not judged")
    certified: dict[str, Certified] = Field(
        description="What the sample supports of rates and of the loss of mAP; only --gate-strict "
        "judges by it",
        json_schema_extra={
            "propertyNames": {"enum": [f.name for f in FIGURES if f.certified is not None]}
        },
    )
    breaches: list[Breach]
    looser_profile: str | None
    likely_causes: list[str]
    worst_samples: list[str]
    exactness: SkipValidation[Exactness | None] = Field(
        description="Rounding errors of both sides against the reference in float64; null where it "
        "cannot be run so, or nothing was measured"
    )
    diagnosis: Diagnosis | None = Field(
        description="Where and why the candidate differs; null where the cell was not diagnosed"
    )
    sensitivity: Sensitivity | None = Field(
        description="Which layers to keep in float; null where --sensitivity did not ask"
    )
    # Made elsewhere: by the file's own metadata, by an engine.
    quantized: SkipValidation[Quantized | None]
    execution: SkipValidation[Execution | None]
    layout: SkipValidation[Layout | None]
    batching: SkipValidation[Batching | None]
    graph: SkipValidation[Graph | None]
    performance: Performance | None
    accuracy: Accuracy | None
    unreadable: dict[str, str] = Field(description="Reason by sample id")
    samples: Count
    seconds: Annotated[float, Field(ge=0)]

    @field_validator("metrics")
    @classmethod
    def _have_their_keys(cls, metrics: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        model = METRICS.get(info.data["stage"])
        if metrics and model is not None:
            model.model_validate(metrics)
        return metrics
