"""Whether all figures of a cell are of one file, and of the one that lies there now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pillsnap.compare.outcome import Outcome
from pillsnap.core.errors import PillsnapError
from pillsnap.core.modelfiles import sha256_model
from pillsnap.core.printable import printable


def find_mixup(outcomes: Sequence[Outcome]) -> str | None:
    """Why a report over these outcomes would be one of another model; None where it would not.

    A file that is replaced while it is measured, or under a worker that opens it later, would
    leave a report that nobody can hold the file to; so would weights beside it. Engines without a
    file have nothing to mix up.
    """
    by_outcome = {
        frozenset(_files(outcome.candidate))
        for outcome in outcomes
        if "sha256" in outcome.candidate
    }
    measured = sorted(frozenset().union(*by_outcome))
    if len(by_outcome) > 1:
        files = ", ".join(f"{printable(path)} ({sha256[:12]})" for path, sha256 in measured)
        return f"the shards of this cell measured different files: {files}"
    for path, sha256 in measured:
        try:
            now = sha256_model(Path(path))
        except PillsnapError as error:
            return f"the file that was measured is gone: {error}"
        if now != sha256:
            return (
                f"the report would be of another model: {printable(path)} was {sha256[:12]} when "
                f"it was measured and is {now[:12]} now"
            )
    return None


def _files(candidate: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Path and SHA-256 of a model and of the files beside it that hold its weights."""
    path = str(candidate["path"])
    yield path, str(candidate["sha256"])
    for name, sha256 in candidate.get("weights_sha256", {}).items():
        yield str(Path(path).with_name(name)), sha256
