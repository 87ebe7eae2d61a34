"""`pillsnap compare`: what got worse, or better, from one report to another."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pillsnap.report.against.earlier import compare_with, read_earlier
from pillsnap.report.evidence import find_evidence
from pillsnap.report.judgements import NO_REPORT, no_report
from pillsnap.report.lines import wrap
from pillsnap.report.page import page_beside, write_page
from pillsnap.report.show import read_report


def main(argv: Sequence[str]) -> int:
    """Print the comparison; exit code 0, or 1 with --fail-on-regression where something got worse.

    Raises:
        PillsnapError: one of the files is no report, or the page cannot be written.
    """
    parser = argparse.ArgumentParser(prog="pillsnap compare", description=__doc__)
    parser.add_argument("old", type=Path, help="the earlier export_report.json")
    parser.add_argument("new", type=Path, help="the later one")
    parser.add_argument("--html", action="store_true", help="write the page of the later one anew")
    parser.add_argument("--fail-on-regression", action="store_true", help="exit code 1 where worse")
    given = parser.parse_args(argv)
    old, new = read_earlier(given.old), read_earlier(given.new)
    if given.html:
        read_report(given.new)  # which a page shows more of
    evidence = find_evidence(new, given.new)
    found = compare_with(old, new, given.old, evidence)
    for line in found.lines():
        print(*wrap(line), sep="\n")
    if given.html:
        page = page_beside(given.new)
        try:
            write_page({**new, "against": found.as_dict()}, page, evidence)
        except NO_REPORT as error:  # its values fit their types, and not one another
            raise no_report(given.new, error) from error
        print(f"page: {page}")
    return int(given.fail_on_regression and found.regressed)
