"""What a run has done so far, in its own folder, so that a killed run can be gone on with.

run.json says what the run is of; outcomes/<shard>.json what each shard yielded, written when its
records are whole; `done` that nothing is left to do. All of it is plain JSON.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import FILE_MODE, make_folder, write_atomic
from pillsnap.core.hashes import VERSION_TAG, canonical_json
from pillsnap.core.locks import is_local, lock_between

if TYPE_CHECKING:
    from filelock import BaseFileLock

# Of a run's folder; nothing else in runs/ is ours to remove.
_RUN = re.compile(rf"{VERSION_TAG}-[0-9a-f]{{6}}")


class RunLock:
    """Held by a run's controller while it lives; goes with the process, however that ends.

    Raises:
        PillsnapError: it cannot be made, or taken there.
    """

    def __init__(self, run_dir: Path) -> None:
        make_folder(run_dir)
        self._path = run_dir / ".lock"
        self._lock: BaseFileLock | None = None

    def take(self) -> bool:
        """Whether no other process holds it."""
        try:
            self._lock = self._lock or lock_between(self._path, FILE_MODE, blocking=False)
        except TimeoutError:
            return False
        except OSError as error:
            raise PillsnapError(
                "the run cannot be locked", where=self._path, got=error.strerror
            ) from error
        return True

    def take_everywhere(self) -> bool:
        """Whether no other process holds it, on whichever machine."""
        return self.take() and self._lock is not None and not is_local(self._lock, self._path)

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None


def begin(run_dir: Path, key: str) -> None:
    """Note what a run is of, which has done nothing yet: half a note is as good as none.

    Raises:
        PillsnapError: it cannot be written.
    """
    path = run_dir / "run.json"
    try:
        # In place, since nobody would come back for a temporary file.
        path.touch(FILE_MODE)
        path.write_text(canonical_json({"key": key}))
    except OSError as error:
        raise PillsnapError("the run cannot be noted", where=path, got=error.strerror) from error


def finish(run_dir: Path) -> None:
    """Note that a run is complete."""
    write_atomic(run_dir / "done", b"")


def find_unfinished(runs: Path, key: str) -> tuple[Path, RunLock] | None:
    """The newest run of the same that is neither complete nor still going, with its lock taken."""
    for run_dir in sorted(_folders(runs), reverse=True):
        if _read(run_dir / "run.json").get("key") != key:
            continue
        with suppress(PillsnapError):  # another user's
            lock = RunLock(run_dir)
            # Looked for under the lock, since a run that ends now says so before it lets go.
            if lock.take() and not (run_dir / "done").exists():
                return run_dir, lock
            lock.close()
    return None


def prune(runs: Path, keep: int, reports: Path) -> None:
    """Remove runs: all but the newest `keep`, those that a report in `reports` is of, and those
    that still go on."""
    reported = {path.stem for path in reports.glob("*.json")}
    names = sorted(
        (path.name for path in _folders(runs) if _RUN.fullmatch(path.name)), reverse=True
    )
    for name in names[keep:]:
        tag, _, run = name.rpartition("-")
        if any(stem.startswith(f"{tag}-") and stem.endswith(f"-{run}") for stem in reported):
            continue
        with suppress(PillsnapError):  # another user's
            lock = RunLock(runs / name)
            if lock.take_everywhere():
                # Without it, nobody goes on with what a killed removal has left.
                (runs / name / "run.json").unlink(missing_ok=True)
                shutil.rmtree(runs / name, ignore_errors=True)
            lock.close()


def write_outcome(run_dir: Path, shard: str, outcome: dict[str, Any]) -> None:
    write_atomic(_outcome_path(run_dir, shard), json.dumps(outcome).encode())


def read_outcome(run_dir: Path, shard: str) -> dict[str, Any] | None:
    """What a shard yielded; None where it has not."""
    return _read(_outcome_path(run_dir, shard)) or None


def _outcome_path(run_dir: Path, shard: str) -> Path:
    return run_dir / "outcomes" / f"{shard}.json"


def _folders(runs: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (path for path in runs.iterdir() if path.is_dir())


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
