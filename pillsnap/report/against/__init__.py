"""A report against an earlier one: what got worse beyond its noise, what got better, what changed.

Where both runs are of the same samples and their records are there, samples are compared one by
one; else by bounds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pillsnap.compare.records import Records
from pillsnap.report.against.changes import Change, Comparison
from pillsnap.report.against.figures import figure_changes
from pillsnap.report.against.settings import list_settings
from pillsnap.report.against.speed import speed_changes
from pillsnap.report.evidence import NO_RECORDS, Evidence

__all__ = ["Comparison", "compare_reports"]

# Of the map of what is null in its place.
METRIC = re.compile(r"cells\[(\d+)\]\.metrics\.(\w+)")

Report = Mapping[str, Any]


def compare_reports(
    old: Report, new: Report, path: Path, before: Evidence, after: Evidence
) -> Comparison:
    """The new report beside the old one, which lies at `path`; of both, what against/checked.py
    says is so."""
    cells = [{cell["id"]: cell for cell in _restored(report)} for report in (old, new)]
    changes: list[Change] = []
    for name, cell in cells[1].items():
        earlier = cells[0].get(name)
        if earlier is None:
            changes.append(Change(name, "cell", None, None, "not compared", "in the new run alone"))
            continue
        pairs = _pairs(old, new, name, (before, after))
        changes += figure_changes(earlier, cell, pairs, new["provenance"]["seed"])
        fastest = before.fastest(earlier), after.fastest(cell)
        changes += speed_changes(earlier, cell, (old["environment"], new["environment"]), fastest)
    for name in cells[0].keys() - cells[1].keys():
        changes.append(Change(name, "cell", None, None, "not compared", "in the old run alone"))
    if not new["gate"]["complete"]:
        changes.append(Change("gate", "complete", None, None, "not compared", "the new run is not"))
    return Comparison(str(path), old["provenance"]["run"], changes, list_settings(old, new))


def _pairs(
    old: Report, new: Report, cell: str, evidence: tuple[Evidence, Evidence]
) -> tuple[Records, Records] | None:
    """The records of a cell of both runs, where they are there and of the same samples."""
    prints = [each["provenance"]["data_fingerprint"].get(cell) for each in (old, new)]
    if prints[0] is None or prints[0] != prints[1]:
        return None
    found = []
    for report, known in zip((old, new), evidence, strict=True):
        of_report = next(each for each in report["cells"] if each["id"] == cell)
        found.append(known.records(of_report))
    first, second = found
    try:
        if first is None or second is None:
            return None
        same = np.array_equal(first["content"], second["content"])
    except NO_RECORDS:
        return None
    return (first, second) if same else None


def _restored(report: Report) -> list[dict[str, Any]]:
    """The cells, with the numbers that are null for not being finite."""
    cells = [{**cell, "metrics": dict(cell["metrics"])} for cell in report["cells"]]
    for place, value in report["non_finite"].items():
        found = METRIC.fullmatch(place)
        if found is not None:
            cells[int(found[1])]["metrics"][found[2]] = float(value)
    return cells
