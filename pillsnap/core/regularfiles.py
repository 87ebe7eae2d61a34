"""Files from elsewhere, opened only where they are files: a pipe would wait for its writer."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file to read it: OSError as of open, and for a folder, pipe, socket or device;
    ValueError for a name with a NUL."""
    name = os.fspath(path)  # of a remote path once: it is asked for then
    # Looked at before it is opened, which devices feel, and again after: it may be another by then.
    _require_regular(os.stat(name).st_mode, path)  # noqa: PTH116
    # Without O_NONBLOCK opening a pipe would wait already.
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _require_regular(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
