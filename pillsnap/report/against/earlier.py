"""Reports to compare: read, and the newest one of a folder that fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pillsnap.core.errors import PillsnapError, first_line
from pillsnap.core.logrecords import open_log
from pillsnap.core.printable import printable
from pillsnap.report.against import Comparison, compare_reports
from pillsnap.report.against.settings import list_settings
from pillsnap.report.evidence import Evidence, find_evidence
from pillsnap.report.judgements import NO_REPORT, in_words, no_report
from pillsnap.report.reading import list_reports, read_bounded

log = open_log(__name__)

Report = dict[str, Any]


def read_earlier(path: Path) -> Report:
    """A report, maybe of another version of pillsnap, of which whatever is compared is of its type;
    raises PillsnapError where it is none."""
    from pillsnap.report.against.checked import Compared

    try:
        report = json.loads(read_bounded(path))
        Compared.model_validate(report)
        list_settings(report, report)  # may be nested too deep
    except OSError as error:
        raise PillsnapError("the report cannot be read", where=path, got=error.strerror) from None
    except NO_REPORT as error:
        raise no_report(path, error) from None
    return dict(report)


def compare_with(old: Report, new: Report, path: Path, after: Evidence) -> Comparison:
    """A report beside an earlier one, which lies at `path`, with what is left of both runs; raises
    PillsnapError where their values fit their types, and not one another."""
    try:
        return compare_reports(old, new, path, find_evidence(old, path), after)
    except NO_REPORT as error:
        raise PillsnapError(
            "the reports cannot be compared", where=path, got=in_words(error)
        ) from None


def find_earlier(folder: Path, new: Report) -> Path | None:
    """Of the reports of a folder that are complete and of other runs that passed, that with most of
    this one's cells, the newest by its name; None where none has any. A run that failed is no
    measure: the next one would be no worse."""
    cells, run, best, most = _cells(new), new["provenance"]["run"], None, 0
    for name in sorted(list_reports(folder), reverse=True):
        try:
            old = read_earlier(folder / name)
            common = len(_cells(old) & cells)
            passed = old["gate"]["complete"] and old["gate"]["exit_code"] == 0
            if passed and common > most and old["provenance"]["run"] != run:
                best, most = folder / name, common
        except PillsnapError as error:
            log.info("%s is no report: %.200s", printable(name), first_line(error))
        if most == len(cells):
            break
    return best


def _cells(report: Mapping[str, Any]) -> set[str]:
    """Ids of the cells that were measured."""
    return {cell["id"] for cell in report["cells"] if cell["metrics"]}
