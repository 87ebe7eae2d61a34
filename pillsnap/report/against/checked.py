"""What a comparison reads of a report, of whatever version: keys of other versions do not matter,
and what is read is of its type."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pillsnap.compare.exactness import ROUNDING
from pillsnap.compare.tasks import task_names, task_of
from pillsnap.compare.verdict import VerdictName
from pillsnap.config.figures import FIGURES
from pillsnap.report.against import METRIC
from pillsnap.report.against.figures import ACCURACY
from pillsnap.report.models.values import Numbers, Size

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

# What floats tell apart.
Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Read(BaseModel):
    model_config = _STRICT


def _known(stage: str) -> str:
    if stage not in task_names():
        raise ValueError(f"there is no such task: {stage}")
    return stage


class Speed(_Read):
    contended: bool
    kind: str | None = None
    batch_size: Count | None
    batch_runs: Count
    batch_latency_p50_ms: Size
    batch_latency_p95_ms: Size
    single_runs: Count
    latency_p50_ms: Size
    latency_p95_ms: Size
    peak_memory_mib: Size
    peak_gpu_memory_mib: Size
    model_size_mib: Size

    @model_validator(mode="after")
    def _medians_have_their_spread(self) -> Self:
        for median, slow in (
            (self.latency_p50_ms, self.latency_p95_ms),
            (self.batch_latency_p50_ms, self.batch_latency_p95_ms),
        ):
            if (median is None) != (slow is None):
                raise ValueError("a median and no 95th percentile, or the other way round")
        return self


class Cell(_Read):
    id: str
    stage: Annotated[str, AfterValidator(_known)]
    verdict: VerdictName
    samples: Count
    metrics: dict[str, Any]
    tolerances: dict[str, Any]
    performance: Speed | None

    @field_validator("metrics")
    @classmethod
    def _are_numbers(cls, metrics: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Those that are compared; others are texts and lists as well."""
        figures = task_of(info.data["stage"]).figures if "stage" in info.data else ()
        names = {*ACCURACY}
        for figure in (*FIGURES, *figures):
            names |= {figure.name, f"{figure.part}{ROUNDING}"}
        for name in names & metrics.keys():
            _NUMBERS.validate_python({name: metrics[name]})
        for figure in figures:
            of = figure.certified
            if of is None or metrics.get(figure.name) is None:
                continue
            # Reports of earlier versions may lack them.
            counts = {name: metrics[name] for name in (*of.failures, *of.trials) if name in metrics}
            _COUNTS.validate_python(counts)
            failed, tried = (
                sum(counts.get(n, 0) for n in names) for names in (of.failures, of.trials)
            )
            if tried and failed > tried:
                raise ValueError(f"{figure.name} fails more often than it was tried")
        return metrics


_NUMBERS = TypeAdapter(Numbers, config=_STRICT)
_COUNTS = TypeAdapter(dict[str, Count], config=_STRICT)


class Gate(_Read):
    complete: bool
    exit_code: int


class Provenance(_Read):
    run: str
    config: str
    seed: int
    data_fingerprint: dict[str, str | None]


class Environment(_Read):
    load: float | None = None


class Stage(_Read):
    compare: dict[str, Any]


class Compared(_Read):
    cells: list[Cell]
    gate: Gate
    provenance: Provenance
    environment: Environment
    stages: dict[str, Stage | None]
    non_finite: dict[str, Literal["nan", "inf", "-inf"]]

    @field_validator("non_finite")
    @classmethod
    def _are_null(cls, places: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        cells = info.data.get("cells", [])
        for found in filter(None, map(METRIC.fullmatch, places)):
            index, name = int(found[1]), found[2]
            if index >= len(cells) or cells[index].metrics.get(name, 0) is not None:
                raise ValueError(f"{found[0]} is not null")
        return places
