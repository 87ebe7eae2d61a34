"""Locks between processes, also on file systems that have none."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.core.logrecords import open_log

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = open_log(__name__)

# What file systems say that have no locks.
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
_told: set[Path] = set()


def lock_between(path: Path, mode: int, *, blocking: bool = True) -> BaseFileLock:
    """An exclusive lock between processes, taken; it goes with the process at the latest.

    Where the file system has none it is held in this machine's folder for temporary files, and only
    this user's processes on this machine are kept apart; the log says so.

    Args:
        path: of a file that is made with `mode` where it is missing, and stays; what it holds is
            left alone.

    Raises:
        TimeoutError: another holds it, and it was not to be waited for.
        OSError: the file cannot be made or locked.
    """
    try:
        return _take(path, mode, blocking)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if path not in _told:
            _told.add(path)
            log.warning(
                "%s: this file system has no locks (%s), so processes of other machines are not "
                "waited for",
                path,
                error.strerror,
            )
        return _take(_stand_in(path), mode, blocking)


def is_local(lock: BaseFileLock, path: Path) -> bool:
    """Whether a lock of lock_between is no word about other machines."""
    return Path(lock.lock_file) != path


def _take(path: Path, mode: int, blocking: bool) -> BaseFileLock:
    from filelock import FileLock

    lock = FileLock(path, mode=mode, thread_local=False, poll_interval=0.01, fallback_to_soft=False)
    lock.acquire(blocking=blocking)
    return lock


def _stand_in(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return Path(tempfile.gettempdir(), f"pillsnap-{os.getuid()}-{name}.lock")
