"""What `pytest -m proof` prints last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Figures named in a row; the report has all.
_NAMED = 3


def render(report: dict[str, Any]) -> Iterator[str]:
    """The lines of a proof_report, each of at most 80 columns where names allow."""
    yield f"{'group':<15}{'faults':>7}{'strict':>8}{'practical':>11}  caught by"
    for row in report["groups"]:
        if row["faults"]:
            yield _row(row["group"], row)
    yield _row("all", report)
    smoke = (report["caught_strict_smoke"], report["caught_practical_smoke"])
    yield f"at smoke size: strict {smoke[0]}, practical {smoke[1]}"
    for each in report["inapplicable"]:
        yield f"not tried: {each['stage']} {each['fault']}: {each['why']}"
    for fault in report["uncaught"]:
        yield f"uncaught: {fault['stage']} {fault['fault']} ({fault['magnitude']})"
        yield f"  {fault['blind'] or fault['reason']}"
    yield f"healthy exports: {report['healthy']}, false alarms: {report['false_alarms']}"
    yield (
        f"diagnosis: {report['located']} of {report['nodes']} faulty nodes named, "
        f"{report['stages_right']} of {report['stage_faults']} stages, "
        f"{report['causes_right']} of {report['causes']} causes"
    )
    for each in report["stage_shares"]:
        if not each["right"]:
            yield f"wrong stage: {each['fault']}: {each['guilty']} has {each['share']:.0f} %"
    for each in report["causes_stated"]:
        if not each["right"]:
            yield f"wrong cause: {each['stage']} {each['fault']}: {each['stated']}"
    for stage, scale in report["smallest_weight_scale"].items():
        shown = "none that was tried" if scale is None else f"{scale:.1e}"
        yield f"smallest scale of a weight tensor caught, {stage}: {shown}"


def _row(name: str, row: dict[str, Any]) -> str:
    rates = f"{row['caught_strict']:>8}{row['caught_practical']:>11}"
    by = ", ".join(f"{figure} {count}" for figure, count in list(row["caught_by"].items())[:_NAMED])
    return f"{name:<15}{row['faults']:>7}{rates}  {by}"
