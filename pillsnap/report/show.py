"""`pillsnap report`: the terminal's table, and the page, of a report that was written earlier."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pillsnap.config.load import find_config, load_config
from pillsnap.core.errors import PillsnapError
from pillsnap.report.evidence import find_evidence
from pillsnap.report.judgements import NO_REPORT, no_report
from pillsnap.report.page import page_beside, write_page
from pillsnap.report.reading import read_bounded
from pillsnap.report.table import render


def main(argv: Sequence[str]) -> int:
    """Print the table; exit code 0 whatever its verdict.

    Raises:
        PillsnapError: there is no such report, the file is none, or its page cannot be written.
    """
    parser = argparse.ArgumentParser(prog="pillsnap report", description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, help="default: the latest of the config")
    parser.add_argument("--config", help="config file (environment: PILLSNAP_CONFIG)")
    parser.add_argument("--html", action="store_true", help="write its page beside it, anew")
    given = parser.parse_args(argv)
    path = given.path
    if path is None:
        config = load_config(find_config(given.config, os.environ, Path.cwd()))
        path = config.out_dir / "export_report.json"
    report, page = read_report(path), page_beside(path)
    try:
        if given.html:
            write_page(report, page, find_evidence(report, path))
        lines = render(report, path, page=page if page.is_file() else None)
    except NO_REPORT as error:  # its values fit their types, and not one another
        raise no_report(path, error) from error
    print(*lines, sep="\n")
    return 0


def read_report(path: Path) -> dict[str, Any]:
    """A report by its path; raises PillsnapError where there is none, or the file is none."""
    from pydantic import ValidationError

    from pillsnap.report.models import Report

    try:
        data = read_bounded(path)
        Report.model_validate_json(data, strict=True)
        report: dict[str, Any] = json.loads(data)
    except OSError as error:
        raise PillsnapError(
            f"the report cannot be read: {error.strerror}", where=path, hint="run pillsnap gate"
        ) from None
    except ValidationError as error:
        raise no_report(path, error, "this is no report of this version of pillsnap") from None
    except NO_REPORT as error:
        raise no_report(path, error) from None
    return report
