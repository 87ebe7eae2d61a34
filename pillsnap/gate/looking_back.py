"""A run beside the earlier report that --against names."""

from __future__ import annotations

from typing import Any

from pillsnap.core.errors import PillsnapError
from pillsnap.gate.run import GateRun
from pillsnap.report.against import Comparison
from pillsnap.report.lines import one_line


def look_back(run: GateRun, report: dict[str, Any]) -> Comparison | None:
    """What got worse since then; None where nobody asks. An earlier report that cannot be read is a
    problem to be shown, and a regression where one fails the run."""
    path = run.selection.against
    if path is None:
        return None
    # At the end of a run: collection does without it.
    from pillsnap.report.against.earlier import compare_with, find_earlier, read_earlier
    from pillsnap.report.evidence import Evidence

    try:
        earlier = find_earlier(path, report) if path.is_dir() else path
        if earlier is None:
            return Comparison(None, None, problem=f"no report in {path} has a cell of this run")
        after = Evidence(run.run_dir, lambda stage: None)
        return compare_with(read_earlier(earlier), report, earlier, after)
    except PillsnapError as error:
        return Comparison(str(path), None, problem=one_line(str(error)))
