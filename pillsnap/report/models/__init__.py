"""The report as models: what each key means and may be. report.schema.json is made from them."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from pillsnap.report.models.against import Against
from pillsnap.report.models.cells import Cell
from pillsnap.report.models.cluster import Cluster
from pillsnap.report.models.runs import Environment, Gate, Provenance
from pillsnap.report.models.stages import Repeated, Stage
from pillsnap.report.models.values import by_stage

__all__ = ["Repeated", "Report"]


class Report(Repeated):
    """The top level repeats stages.classification, the classifier's worst cell; its keys are null
    when the classifier was not run."""

    model_config = ConfigDict(title="pillsnap export report")

    schema_version: Literal[1]
    stages: dict[str, Stage | None] = Field(json_schema_extra=by_stage)
    cells: list[Cell]
    gate: Gate
    cluster: Cluster | None
    against: Against | None
    environment: Environment
    provenance: Provenance
    non_finite: dict[str, Literal["nan", "inf", "-inf"]] = Field(
        description="Places whose null stands for a number that is not finite"
    )
