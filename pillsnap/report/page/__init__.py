"""export_report.html: a report as one page that holds all it shows and needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pillsnap.core.files import write_atomic
from pillsnap.core.printable import printable
from pillsnap.report.against.changes import Comparison, shown_value
from pillsnap.report.clusters import cluster_lines
from pillsnap.report.evidence import Evidence
from pillsnap.report.lines import one_line
from pillsnap.report.page import charts
from pillsnap.report.page.view import verdict_in_words, view_cells
from pillsnap.report.table import skipped_alike, why_missing


def page_beside(report: Path) -> Path:
    """Where the page of a report lies."""
    return report.with_suffix(".html")


def write_page(report: dict[str, Any], path: Path, evidence: Evidence) -> None:
    """Write the page of a report; raises PillsnapError where it cannot be written."""
    write_atomic(path, render_page(report, evidence).encode())


def render_page(report: dict[str, Any], evidence: Evidence) -> str:
    """The page as HTML; whatever is markup in names and messages is shown as text. Raises one of
    NO_REPORT where the report is none."""
    # At the end of a run: collection does without templates.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
    from markupsafe import Markup

    def shown(value: object) -> object:
        """A text on one line, with what does not print escaped; None is nothing."""
        if isinstance(value, str) and not isinstance(value, Markup):
            return printable(one_line(value) if "\n" in value else value)
        return "" if value is None else value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    against = report["against"]
    try:
        return environment.get_template("page.html").render(
            report=report,
            words=verdict_in_words(report),
            views=view_cells(report, evidence),
            why_missing=why_missing(report["gate"]),
            skipped=skipped_alike(report["gate"]),
            plot=charts,
            back=None if against is None else Comparison.from_dict(against),
            value=shown_value,
            cluster=list(cluster_lines(report.get("cluster"))),
            stages=[stage for stage in report["stages"].values() if stage is not None],
        )
    except UndefinedError as error:
        raise LookupError(error.message) from error
