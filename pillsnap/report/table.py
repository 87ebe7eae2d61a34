"""The terminal's section in 80 columns: breaches first and in words, then a row per cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pillsnap.compare.verdict import BUDGET, Breach, concerns_outputs
from pillsnap.core.printable import listed, printable
from pillsnap.report.against.changes import Comparison
from pillsnap.report.clusters import cluster_lines
from pillsnap.report.findings import diagnosis_lines
from pillsnap.report.lines import one_line, wrap
from pillsnap.report.rows import cell_row

_LOWER = {"fp16": "half precision (float16)", "int8": "INT8"}

# Shards that are named where they are missing, and pytest's exit code of an interrupted run.
_LISTED, _INTERRUPTED = 5, 2


def render(
    report: dict[str, Any],
    path: Path | str | None,
    problem: str | None = None,
    warnings: Sequence[str] = (),
    page: Path | None = None,
) -> list[str]:
    """Lines of the section for a report.

    Args:
        path: where the report lies; None if it could not be written.
        problem: why it could not.
        warnings: of what came after it.
        page: where its page lies; None where it has none.
    """
    gate = report["gate"]
    lines = []
    for verdict in ("breach", "inconclusive"):
        for cell in report["cells"]:
            if cell["verdict"] == verdict:
                lines += wrap(f"{verdict.upper()} {cell['id']}: {one_line(cell['reason'])}")
                lines += explain(cell)
                lines += diagnosis_lines(cell)
    for shards, reason in skipped_alike(gate):
        lines += wrap(f"SKIPPED {shards}: {one_line(reason)}")
    for cell_id in gate["unmeasured"]:
        lines += wrap(f"NOT MEASURED {cell_id}: it was asked for (--stage names what is)")
    lines += _missing(gate)
    for cell in report["cells"]:
        lines += cell_row(cell)
    stages = [stage for stage in report["stages"].values() if stage is not None]
    for warning in report["environment"]["problems"]:
        lines += wrap(f"warning: {warning}")
    for text in cluster_lines(report.get("cluster")):
        lines += wrap(text)
    for note in dict.fromkeys(note for stage in stages for note in stage["compare"]["notes"]):
        lines += wrap(f"note: {note}")
    for note in _of_checkout(report["provenance"]):
        lines += wrap(f"note: {note}")
    if report["against"] is not None:
        for line in Comparison.from_dict(report["against"]).lines():
            lines += wrap(line)
    for warning in warnings:
        lines += wrap(f"warning: {one_line(warning)}")
    verdict, state = gate["verdict"], "complete" if gate["complete"] else "INCOMPLETE"
    lines.append(f"gate: {verdict or 'nothing measured'}, {state}, exit code {gate['exit_code']}")
    if problem is not None:
        lines += wrap(f"report not written: {one_line(problem)}")
    if page is not None:
        lines.append(printable(f"page: {page}"))
    if path is not None:
        lines.append(printable(f"report: {path}"))
    return lines


def _missing(gate: dict[str, Any]) -> list[str]:
    """Shards without an outcome, the first of them by name."""
    shards, why = gate["missing"], why_missing(gate)
    lines = [line for shard in shards[:_LISTED] for line in wrap(f"MISSING {shard}: {why}")]
    more = len(shards) - _LISTED
    return lines + (wrap(f"MISSING {more} more: {why}") if more > 0 else [])


def why_missing(gate: dict[str, Any]) -> str:
    """What became of a shard that has no outcome."""
    interrupted = gate["exit_code"] == _INTERRUPTED
    return "interrupted before it ended" if interrupted else "its worker never reported"


def skipped_alike(gate: dict[str, Any]) -> list[tuple[str, str]]:
    """Shards that were skipped for one reason, the first by name, and that reason."""
    by_reason: dict[str, list[str]] = {}
    for shard, reason in gate["skipped"].items():
        by_reason.setdefault(reason, []).append(shard)
    return [(listed(shards, 1), reason) for reason, shards in by_reason.items()]


def explain(cell: dict[str, Any]) -> list[str]:
    return [line for text in explanations(cell) for line in wrap(text, indent=2)]


def explanations(cell: dict[str, Any]) -> list[str]:
    """What to go on from after a breach: the tolerance it takes, where to look, the samples; of
    speed and memory, which no profile and no sample is about, where to look alone."""
    if cell["verdict"] != "breach" or not cell["breaches"]:
        return []
    breaches = [Breach(**breach) for breach in cell["breaches"]]
    takes: dict[str, float] = {}  # of strides, which share a tolerance, the largest
    for breach in breaches:
        if breach.where != BUDGET:
            # A number that is not finite is null in the report.
            value = math.inf if breach.value is None else breach.value
            takes[breach.figure] = max(value, takes.get(breach.figure, value))
    needed = ", ".join(f"{figure} {value:.3g}" for figure, value in takes.items())
    held = cell["looser_profile"]
    looser = f"profile {held} would have held" if held else "no looser profile would have held"
    texts = []
    if needed:
        texts.append(f"held to profile {cell['profile']}; {looser}; it would take {needed}")
    texts.append("likely: " + "; ".join(cell["likely_causes"]))
    if concerns_outputs(breaches):
        texts.append("worst samples: " + ", ".join(cell["worst_samples"][:3]))
    found = ((cell["execution"] or {}).get("precision") or {}).get("compute_nodes_by_type", {})
    for name, words in _LOWER.items():
        if cell["precision"] == "fp32" and name in found:
            texts.append(f"try: --precision {name}, which is for files in {words}")
    return texts


def _of_checkout(provenance: dict[str, Any]) -> Iterator[str]:
    """What the commit does not tell of the files that ran."""
    if provenance["git_dirty"]:
        digest = provenance["git_diff_sha256"][:12]
        yield f"files of commit {provenance['git_sha']} had been changed (diff {digest})"
    if provenance["git_dirty_reason"]:
        reason = provenance["git_dirty_reason"]
        yield f"changes to commit {provenance['git_sha']} are not known: {reason}"
