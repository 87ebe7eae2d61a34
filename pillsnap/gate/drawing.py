"""The page of a run's report, drawn once its exit code is known; no verdict depends on it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pillsnap.core.errors import first_line
from pillsnap.gate.finish import Finished


def draw_page(finished: Finished, run_dir: Path, *, wanted: bool) -> tuple[Path | None, str | None]:
    """Write the page beside the report, if it is wanted and there is a report. Where there will be
    none, that of an earlier report goes: it would be taken for this one's.

    Returns:
        where it lies, and why it could not be written.
    """
    # At the end of a run: collection does without it.
    from pillsnap.report.evidence import Evidence
    from pillsnap.report.page import page_beside, write_page

    if finished.path is None:
        return None, None
    path, data = page_beside(finished.path), {r.cell.stage: r.data for r in finished.results}
    problem = None
    if wanted:
        try:
            write_page(finished.report, path, Evidence(run_dir, data.get))
            return path, None
        except (Exception, KeyboardInterrupt) as error:  # whatever it is, the verdict stands
            problem = f"the report has no page: {first_line(error)}"
    with suppress(OSError):
        path.unlink(missing_ok=True)
    return None, problem
