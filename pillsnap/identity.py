"""Whether all figures of a cell are of one file, and of the one that lies there now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pillsnap.artifacts import sha256_file
from pillsnap.errors import PillsnapError
from pillsnap.outcome import Outcome


def find_mixup(outcomes: Sequence[Outcome]) -> str | None:
    """Why a report over these outcomes would be one of another model; None where it would not.

    A file that is replaced while it is measured, or under a worker that opens it later, would
    leave a report that nobody can hold the file to. Engines without a file have nothing to mix up.
    """
    measured = {
        (str(outcome.candidate["path"]), str(outcome.candidate["sha256"]))
        for outcome in outcomes
        if "sha256" in outcome.candidate
    }
    if len(measured) > 1:
        files = ", ".join(f"{path} ({sha256[:12]})" for path, sha256 in sorted(measured))
        return f"the shards of this cell measured different files: {files}"
    for path, sha256 in measured:
        try:
            now = sha256_file(Path(path))
        except PillsnapError as error:
            return f"the file that was measured is gone: {error}"
        if now != sha256:
            return (
                f"the report would be of another model: {path} was {sha256[:12]} when it was "
                f"measured and is {now[:12]} now"
            )
    return None
