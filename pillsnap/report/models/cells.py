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
from pillsnap.report.models.figures import (
    METRICS,
    Exactness,
)
from pillsnap.report.models.values import (
    Count,
    Counts,
    Flag,
    Natural,
    Number,
    Numbers,
    Part,
    Rate,
    Size,
    StageName,
    Text,
    Texts,
    one_of,
)

Nothing = Annotated[dict[str, Any], Field(max_length=0)]

# Of any task: what one adds from outside is no part of the schema.
Metrics = Annotated[
    dict[str, Any],
    GetPydanticSchema(
        lambda _, handler: handler.generate_schema(reduce(or_, (*METRICS.values(), Nothing)))
    ),
    SkipValidation,
]


class Certified(Part):
    certified_upper: Rate = Field(
        description="One-sided 95 % bound: Clopper-Pearson for rates, a paired bootstrap over "
        "images for mAP deltas; null without trials"
    )
    tolerance: Number | None
    certifies: Flag | None = Field(
        description="The bound is within the tolerance; null where that is null"
    )
    trials: Count = Field(description="Samples, boxes or, of an mAP delta, images")
    failures: Count | None = Field(description="null for an mAP delta")
    samples_needed: Natural | None = Field(
        description="Fewest trials that would, with no further failure; null where none do"
    )


class Breach(Part):
    figure: Text
    value: Number | None
    limit: Number
    where: Text


class Quantized(Part):
    """How the file of lower precision was made; null for float32 and for files made elsewhere"""

    precision: Annotated[Literal["fp16", "int8"], SkipValidation]
    method: Annotated[Literal["", "static", "dynamic", "auto"], SkipValidation]
    size_bytes: Natural
    nodes_low: Count = Field(
        description="Nodes with weights, or of matrix products, that run in fewer bits"
    )
    nodes_float: Count
    float_nodes: Texts
    freed: Texts = Field(description="Nodes that method auto left float to hold the profile")
    source_sha256: Text
    calibration_sha256: Text
    calibration_images: Count


class Placement(Part):
    provider: Text = Field(description="The one asked for; of auto the one that runs")
    compute_nodes: Count = Field(description="Convolutions and matrix products, before fusion")
    compute_nodes_on_provider: Count
    compute_nodes_by_provider: Counts
    other_ops_elsewhere: Counts = Field(
        description="Other nodes on another provider, counted by op type"
    )


class Execution(Part):
    """Where the candidate really ran; null for an engine without providers"""

    providers: Texts = Field(description="Of the session, best first")
    provider_options: Annotated[dict[str, dict[str, str]], SkipValidation] = Field(
        description="What reads back of the options asked for, by provider"
    )
    placement: Placement


class Performance(Part):
    """Speed and memory of the candidate; null without figures"""

    contended: Flag = Field(
        description="Several workers shared the machine: the figures tell little, and no budget is "
        "judged"
    )
    batch_size: Natural | None = Field(description="Images of the batches that were timed")
    batch_runs: Count
    images_per_s: Size = Field(description="In such batches, after the first")
    batch_latency_p50_ms: Size = Field(description="Median time of a batch")
    batch_latency_p95_ms: Size = Field(description="95th percentile of it")
    single_runs: Count
    latency_p50_ms: Size = Field(
        description="Median time of one image; of ONNX Runtime in a process of its own"
    )
    latency_p95_ms: Size = Field(description="95th percentile of it")
    torch_images_per_s: Size = Field(
        description="The reference in batches of the same size on the same machine"
    )
    torch_remembered: Flag | None = Field(
        description="Whether torch_images_per_s was measured in an earlier run, on a machine that "
        "may have been busier: a run whose reference answers from the cache opens no torch"
    )
    speedup_over_torch: Size = Field(description="images_per_s over torch_images_per_s")
    peak_memory_mib: Size = Field(
        description="Peak resident memory of a process that runs this model alone, one image at a "
        "time"
    )
    peak_gpu_memory_mib: Size = Field(
        description="What that process takes of the GPU's memory; null without one"
    )
    model_size_mib: Size = Field(description="Of the file")


class Accuracy(Part):
    """How good the reference is; null without figures"""

    figure: Annotated[Literal["reference_top1", "reference_map_0_5_0_95"], SkipValidation]
    found: Rate
    upper: Rate = Field(description="What the sample supports at most, at 95 % confidence")
    expected: Rate = Field(description="What is known of the model; null where nothing is")
    source: Annotated[Literal["config", "training"], SkipValidation] | None
    short: Flag | None = Field(
        description="Whether the bound lies below what is known, which makes the cell "
        "inconclusive; null where that is not judged"
    )
    unjudged: Text | None = Field(description="Why it is not judged")


class Cell(Part):
    id: Text
    stage: StageName
    engine: Text
    provider: Text = Field(description="One of its engine's")
    precision: Annotated[Text, one_of(PRECISIONS)]
    mode: Annotated[Text, one_of(MODES)]
    hard: Flag = Field(
        description="Whether it is of samples that the reference is less and less sure of, in "
        "place of the population"
    )
    verdict: Annotated[VerdictName, SkipValidation]
    profile: Annotated[Text, one_of(PROFILES)]
    reason: Text | None
    metrics: Metrics = Field(
        description="Figures of the cell by name; empty when nothing was measured"
    )
    tolerances: Numbers = Field(description="The profile in force; null is not judged")
    certified: dict[str, Certified] = Field(
        description="What the sample supports of rates and mAP deltas; only --gate-strict judges "
        "by it",
        json_schema_extra={
            "propertyNames": {"enum": [f.name for f in FIGURES if f.certified is not None]}
        },
    )
    breaches: list[Breach]
    looser_profile: Text | None
    likely_causes: Texts
    worst_samples: Texts
    exactness: SkipValidation[Exactness | None] = Field(
        description="Rounding errors of both sides against the reference in float64; null where it "
        "cannot be run so, or nothing was measured"
    )
    diagnosis: Diagnosis | None = Field(
        description="Where and why the candidate differs; null where the cell was not diagnosed"
    )
    # Made elsewhere: by the file's own metadata, by an engine.
    quantized: SkipValidation[Quantized | None]
    execution: SkipValidation[Execution | None]
    performance: Performance | None
    accuracy: Accuracy | None
    unreadable: Annotated[dict[str, str], SkipValidation] = Field(description="Reason by sample id")
    samples: Count
    seconds: Annotated[float, Field(ge=0), SkipValidation]

    @field_validator("metrics")
    @classmethod
    def _have_their_keys(cls, metrics: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        model = METRICS.get(info.data["stage"])
        if metrics and model is not None:
            model.model_validate(metrics)
        return metrics
