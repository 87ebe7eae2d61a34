"""Files that appear whole or not at all, links and locks.

A temporary file stays locked by the process that writes it. One without a holder is thus of a
process that was killed, and goes when the next one writes into that folder.

File systems of networks and sticks lack some of it. What stands in for it is said in the log.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from pillsnap.core.errors import PillsnapError
from pillsnap.core.locks import lock_between
from pillsnap.core.logrecords import open_log

log = open_log(__name__)

_TEMP_NAME = ".pillsnap-{}.tmp"

# Whatever the umask says, not everybody writes here: reports approve models.
FILE_MODE, FOLDER_MODE = 0o664, 0o775

# What file systems say that cannot do it.
_NO_REPLACING = {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EEXIST}
_NO_SYNCING = {errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Of an OSError."""

_HINTS = {
    errno.ENOSPC: "free some space on that disk, or write elsewhere",
    errno.EDQUOT: "free some of your quota, or write elsewhere",
    errno.EACCES: "make the folder writable, or write elsewhere",
    errno.EPERM: "make the folder writable, or write elsewhere",
    errno.EROFS: "the disk is mounted read-only: write elsewhere",
    errno.EEXIST: "a file stands where a folder is needed: move it, or write elsewhere",
    errno.ENOTDIR: "a file stands where a folder is needed: move it, or write elsewhere",
    errno.EISDIR: "a folder stands where a file is needed: move it away",
}


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file that readers see whole or not at all; missing folders are made.

    Raises:
        PillsnapError: it cannot be written; an older file of that name is then untouched.
    """
    with replace_atomic(path) as temp:
        temp.write_bytes(data)


@contextmanager
def replace_atomic(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield an empty temporary file beside `path` that takes its name when the block ends well.

    It is hidden, and removed when the block or the renaming fails. It must be written in place:
    another file renamed over it would not be locked.

    Args:
        sync: wait until the disk has it; without, a power cut may leave a file of no content.

    Raises:
        PillsnapError: the folder cannot be made, or the file cannot be written or renamed.
    """
    temp = _temp_beside(path)
    try:
        make_folder(path.parent)
        _remove_abandoned(path.parent)
        with _held(temp):
            yield temp
            if sync:
                _sync(temp)
            _rename(temp, path)
    except OSError as error:
        # An error that names another file was about something else than this writing. Of a copy the
        # file that was read is named first, whichever of the two it is about.
        copied = error.errno in DISK_FULL and str(error.filename2) == str(temp)
        if error.filename is not None and os.fspath(error.filename) != str(temp) and not copied:
            raise
        raise unwritable(path, error) from error
    if sync:
        with suppress(OSError):  # some file systems cannot sync a folder
            _sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, if they are missing; PillsnapError where that cannot be."""
    try:
        # One by one, since parents would not get the mode.
        for missing in [each for each in (folder, *folder.parents) if not each.is_dir()][::-1]:
            missing.mkdir(FOLDER_MODE, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def point_latest(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, or a copy of it where there are no links,
    replacing what it was in one step; PillsnapError where neither can be made, or a folder has its
    name."""
    temp = _temp_beside(link)
    # Resolved, since ".." through a symbolic link leads elsewhere.
    goal = os.path.relpath(target.parent.resolve() / target.name, link.parent.resolve())
    try:
        temp.symlink_to(goal)
    except OSError as error:  # of many kinds, and most are of the writing, which copying meets too
        with replace_atomic(link) as copy:
            shutil.copyfile(target, copy)
        log.warning("%s is a copy: no link can be made there (%s)", link, error.strerror)
        return
    try:
        temp.replace(link)
    except OSError as error:
        raise unwritable(link, error) from error
    finally:
        with suppress(OSError):
            temp.unlink()


@contextmanager
def file_lock(path: Path, mode: int = FILE_MODE, *, blocking: bool = True) -> Iterator[None]:
    """Hold an exclusive lock between processes; the file stays, with what it holds.

    The lock goes with the process that holds it, so a killed run leaves none behind. PillsnapError
    where the lock file cannot be made or locked; TimeoutError where another holds it that is not to
    be waited for.
    """
    make_folder(path.parent)
    try:
        lock = lock_between(path, mode, blocking=blocking)
    except TimeoutError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release(force=True)


def _temp_beside(path: Path) -> Path:
    return path.parent / _TEMP_NAME.format(secrets.token_hex(8))


@contextmanager
def _held(temp: Path) -> Iterator[None]:
    """Make a file and keep it locked; what still has its name at the end is removed."""
    while True:
        descriptor = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            with suppress(OSError):  # without locks, no process takes a file for abandoned
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not temp.exists():
                continue  # it was taken for abandoned before it was locked
            yield
            return
        finally:
            with suppress(OSError):
                temp.unlink()
            os.close(descriptor)


@cache
def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of killed processes; once for each folder, as listing it costs."""
    for temp in folder.glob(_TEMP_NAME.format("*")):
        with suppress(OSError):  # it is held, a link, or gone
            descriptor = os.open(temp, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temp.unlink()
            finally:
                os.close(descriptor)


def _rename(temp: Path, path: Path) -> None:
    """Put a file in the place of another, in one step where the file system can."""
    try:
        temp.replace(path)
    except OSError as error:
        # A copy into a link would go into what it leads to.
        if error.errno not in _NO_REPLACING or path.is_symlink() or path.is_dir():
            raise
        try:
            shutil.copyfile(temp, path)
        except OSError:
            raise error from None
        log.warning(
            "%s was written in place, where a reader may have met half of it: no file can take the "
            "place of another there (%s)",
            path,
            error.strerror,
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNCING:
            raise
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError) -> PillsnapError:
    """What to tell whoever wanted to write there."""
    return PillsnapError(
        "cannot write",
        where=path,
        got=error.strerror or type(error).__name__,
        hint=_HINTS.get(error.errno or 0, "check the path and the disk, or write elsewhere"),
    )
