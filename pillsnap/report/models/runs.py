"""What the report says of the run as a whole: gate, environment, provenance."""

from __future__ import annotations

from pydantic import Field

from pillsnap.compare.verdict import VerdictName
from pillsnap.report.models.values import Natural, Part, Sha256, StageName, by_stage

Hashes = dict[str, Sha256 | None]


class Approval(Part):
    stage: StageName
    path: str
    sha256: Sha256
    provider: str = Field(description="ONNX Runtime's name of it")
    approved: bool
    reason: str | None = Field(description="What stands against it; null for an approved one")


class Gate(Part):
    verdict: VerdictName | None
    exit_code: int = Field(description="The process's own")
    complete: bool
    missing: list[str]
    skipped: dict[str, str]
    unmeasured: list[str] = Field(
        description="Cells that a gate was asked for and that were skipped as a whole"
    )
    breaches: list[str]
    approvals: list[Approval] = Field(
        description="Whether the gate stands behind each file, by this report and the earlier "
        "ones: the newest decides, but a breach of what the file answers outlasts later passes "
        "under the same data, configuration and checkpoint"
    )
    latest: dict[str, str | None] = Field(
        description="The float32 export that latest_<stage>.onnx was given by this run; null where "
        "it stays what it was, since the gate has not passed one",
        json_schema_extra=by_stage,
    )


class RuntimeOptions(Part):
    """How ONNX Runtime was told to optimise graphs"""

    graph_optimization_level: str
    disabled_optimizers: list[str]


class Environment(Part):
    python: str
    platform: str
    cpu: str | None
    cores: int | None
    threads: Natural
    load: float | None = Field(
        description="Processes that ran or waited in the minute before the run, whoever's they "
        "were, for each CPU of the machine; null where that is not known"
    )
    gpu: str | None
    driver: str | None
    cuda: str | None
    cudnn: str | None
    tensorrt: str | None
    packages: dict[str, str | None]
    distributions: dict[str, dict[str, str]] = Field(
        description="By the name in packages, what each version came from: the installed "
        "distributions of the package, with their versions. Several lie over one another"
    )
    problems: list[str] = Field(
        description="Packages that are installed more than once, and versions outside the bounds "
        "of pillsnap's own metadata"
    )
    runtime: RuntimeOptions


class Provenance(Part):
    run: str
    started_at_utc: str
    git_sha: str
    git_dirty: bool | None = Field(
        description="Whether files of the commit had been changed when the run began; null where "
        "there is none, or it is not known"
    )
    git_diff_sha256: Sha256 | None = Field(description="Of git diff, where there is one")
    git_dirty_reason: str | None = Field(description="Why it is not known")
    command: str
    config: str
    config_sha256: str
    checkpoints_sha256: Hashes
    models_sha256: Hashes
    weights_sha256: dict[str, dict[str, Sha256]] = Field(
        description="By cell, the files beside the model that hold its weights."
    )
    data_sha256: Hashes = Field(
        description="Over names and labels of all validation data, by stage; null where a bundle "
        "stands for them"
    )
    data_fingerprint: Hashes
    seed: int
