"""Earlier reports: read, and the newest one of a folder that fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pillsnap.core.errors import PillsnapError, first_line
from pillsnap.core.logrecords import open_log
from pillsnap.core.printable import printable
from pillsnap.report.against import Comparison, compare_reports
from pillsnap.report.evidence import Evidence, find_evidence
from pillsnap.report.judgements import NO_REPORT
from pillsnap.report.reading import list_reports, read_bounded

log = open_log(__name__)

Report = dict[str, Any]


def read_earlier(path: Path) -> Report:
    """A report, maybe of another version of pillsnap; raises PillsnapError where it is none."""
    try:
        report = json.loads(read_bounded(path))
        _cells(report)
    except OSError as error:
        raise PillsnapError("the report cannot be read", where=path, got=error.strerror) from None
    except NO_REPORT as error:
        raise _no_report(path, error) from None
    return dict(report)


def compare_with(old: Report, new: Report, path: Path, after: Evidence) -> Comparison:
    """A report beside an earlier one, which lies at `path`, with what is left of both runs; raises
    PillsnapError where that one is none."""
    try:
        return compare_reports(old, new, path, find_evidence(old, path), after)
    except NO_REPORT as error:
        raise _no_report(path, error) from None


def find_earlier(folder: Path, new: Report) -> Path | None:
    """The newest complete report of a folder, by its name, that has a cell in common with this one
    and is of another run; None where there is none."""
    cells, run = _cells(new), new["provenance"]["run"]
    for name in sorted(list_reports(folder), reverse=True):
        try:
            old = read_earlier(folder / name)
            fits = bool(_cells(old) & cells) and old["gate"]["complete"]
            if fits and old["provenance"]["run"] != run:
                return folder / name
        except (PillsnapError, *NO_REPORT) as error:
            log.info("%s is no report: %.200s", printable(name), first_line(error))
    return None


def _cells(report: Mapping[str, Any]) -> set[str]:
    """Ids of the cells that were measured."""
    return {cell["id"] for cell in report["cells"] if cell["metrics"]}


def _no_report(path: Path, error: Exception) -> PillsnapError:
    return PillsnapError(
        "this is no report", where=path, got=first_line(error), expected="an export_report.json"
    )
