"""Local copies of files that lie elsewhere: whole, and of the version that was asked for."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pillsnap.core.boundedfolder import BoundedFolder
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import file_lock, replace_atomic
from pillsnap.core.filesystems import RemoteError
from pillsnap.core.hashes import sha256_json
from pillsnap.core.urls import masked

# What was opened by its path a moment ago may be opened again by it.
_SPARED_S = 10.0

# Most bytes that a process makes room for ahead of its copies.
_RESERVED = 64 << 20
_reserved: dict[Path, int] = {}
_reserving = threading.Lock()


@dataclass(frozen=True)
class Origin:
    """Where a configuration names a URL, and where copies of what is behind it are kept.

    Attributes:
        place: file, line and key.
        folder: exp_dir/cache/remote.
        limit: most bytes of all copies together.
    """

    place: str
    folder: Path = Path()
    limit: int = 0

    def on_this_machine(self) -> Origin:
        """The same for a process that a path has come to: copies lie among the temporary files of a
        machine that has no experiment's folder."""
        if self.folder.parent.parent.is_dir():
            return self
        return replace(
            self, folder=Path(tempfile.gettempdir(), f"pillsnap-{os.getuid()}", "remote")
        )


def keep_copy(
    url: str,
    size: int | None,
    version: str | None,
    origin: Origin,
    download: Callable[[Path], None],
) -> Path:
    """A whole copy of a file, downloaded by one process at a time where there is none of this
    version; of a file without versions every time.

    Args:
        download: writes the file into the path that it is given.

    Raises:
        RemoteError: what was downloaded has another size, or it cannot be written.
    """
    folder = BoundedFolder(origin.folder, ".copy", origin.limit, _SPARED_S)
    copy = folder.place_of(sha256_json([url, size, version]))

    def is_there() -> bool:
        return version is not None and _is_whole(copy, size)

    try:
        if not is_there():
            with file_lock(copy.with_name(".lock")):
                if not is_there():  # another process may have been faster
                    _reserve(folder, size or 0)
                    # Without a size, half a file would not be told from a whole one.
                    with replace_atomic(copy, sync=size is None) as temp:
                        download(temp)
                        _require_whole(temp, size, url)
    except RemoteError:
        raise
    except PillsnapError as error:
        raise RemoteError(
            "no copy of it can be kept here", where=masked(url), details=[error]
        ) from error
    with suppress(OSError):
        os.utime(copy)
    return copy


def _reserve(folder: BoundedFolder, size: int) -> None:
    """Make room for a copy. A process does so for many at once: all processes of a machine write
    the total of a folder, one after the other."""
    with _reserving:
        left = _reserved.get(folder.folder, 0)
        if left < size:
            more = max(size, min(_RESERVED, folder.limit // 100))
            folder.make_room(more)
            left += more
        _reserved[folder.folder] = left - size


def _is_whole(copy: Path, size: int | None) -> bool:
    try:
        return copy.stat().st_size == size or size is None
    except OSError:
        return False


def _require_whole(temp: Path, size: int | None, url: str) -> None:
    came = temp.stat().st_size
    if size is not None and came != size:
        raise RemoteError(
            "a download that is not whole",
            where=masked(url),
            got=f"{came:,} bytes",
            expected=f"{size:,} bytes",
            hint="run again: it was cut off, or the file was replaced meanwhile",
        )
