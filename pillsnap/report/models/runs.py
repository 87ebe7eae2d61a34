"""What the report says of the run as a whole: gate, environment, provenance."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SkipValidation

from pillsnap.compare.verdict import VerdictName
from pillsnap.report.models.values import (
    Flag,
    Integer,
    Natural,
    Part,
    Sha256,
    StageName,
    Text,
    Texts,
    by_stage,
)

ByName = Annotated[dict[str, str], SkipValidation]
Hashes = Annotated[dict[str, Sha256 | None], SkipValidation]


class Approval(Part):
    stage: StageName
    path: Text
    sha256: Sha256
    provider: Text = Field(description="ONNX Runtime's name of it")
    approved: Flag
    reason: Text | None = Field(description="What stands against it; null for an approved one")


class Gate(Part):
    verdict: Annotated[VerdictName, SkipValidation] | None
    exit_code: Integer = Field(description="The process's own")
    complete: Flag
    missing: Texts
    skipped: ByName
    unmeasured: Texts = Field(
        description="Cells that a gate was asked for and that were skipped as a whole"
    )
    breaches: Texts
    approvals: list[Approval] = Field(
        description="Whether the gate stands behind each file, by this report and the earlier "
        "ones: the newest decides, but a breach of what the file answers outlasts later passes "
        "under the same data, configuration and checkpoint"
    )
    latest: Annotated[dict[str, str | None], SkipValidation] = Field(
        description="The float32 export that latest_<stage>.onnx was given by this run; null where "
        "it stays what it was, since the gate has not passed one",
        json_schema_extra=by_stage,
    )


class RuntimeOptions(Part):
    """How ONNX Runtime was told to optimise graphs"""

    graph_optimization_level: Text
    disabled_optimizers: Texts


class Environment(Part):
    python: Text
    platform: Text
    cpu: Text | None
    cores: Integer | None
    threads: Natural
    gpu: Text | None
    driver: Text | None
    cuda: Text | None
    cudnn: Text | None
    tensorrt: Text | None
    packages: Annotated[dict[str, str | None], SkipValidation]
    distributions: Annotated[dict[str, dict[str, str]], SkipValidation] = Field(
        description="By the name in packages, what each version came from: the installed "
        "distributions of the package, with their versions. Several lie over one another"
    )
    problems: Texts = Field(
        description="Packages that are installed more than once, and versions outside the bounds "
        "of pillsnap's own metadata"
    )
    runtime: RuntimeOptions


class Provenance(Part):
    run: Text
    started_at_utc: Text
    git_sha: Text
    git_dirty: Flag | None = Field(
        description="Whether files of the commit had been changed when the run began; null where "
        "there is none, or it is not known"
    )
    git_diff_sha256: Sha256 | None = Field(description="Of git diff, where there is one")
    git_dirty_reason: Text | None = Field(description="Why it is not known")
    command: Text
    config: Text
    config_sha256: Text
    checkpoints_sha256: Hashes
    models_sha256: Hashes
    weights_sha256: Annotated[dict[str, dict[str, Sha256]], SkipValidation] = Field(
        description="By cell, the files beside the model that hold its weights."
    )
    data_sha256: Hashes = Field(
        description="Over names and labels of all validation data, by stage; null where a bundle "
        "stands for them"
    )
    data_fingerprint: Hashes
    seed: Integer
