"""A folder of remembered files, shared by processes and bounded: what was used longest ago goes."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pillsnap.core.files import file_lock, replace_atomic

_KEPT = 0.9


@dataclass(frozen=True)
class BoundedFolder:
    """Entries lie as <two digits>/<name><suffix>; the time of an entry is when it was used last.

    Attributes:
        limit: most bytes of all entries together.
        spared_s: what was used in so many last seconds stays, whatever the bound says.
    """

    folder: Path
    suffix: str
    limit: int
    spared_s: float = 0.0

    def place_of(self, key: str) -> Path:
        """The file of an entry, there or not; `key` is 64 hex digits."""
        return self.folder / key[:2] / f"{key}{self.suffix}"

    def make_room(self, size: int) -> None:
        """Reserve bytes for an entry; when the bound is passed, what was used longest ago goes.

        The total stands in a file, as every process writes. A process that is killed between this
        and its entry leaves the total too high, which the next look at the folder mends.
        """
        note = self.folder / ".size"
        with file_lock(self.folder / ".size.lock"):
            try:
                total = int(note.read_text())
            except (OSError, ValueError):
                total = self.limit  # not known: look
            if total + size > self.limit:
                total = self._evict(self.limit - size)
            with replace_atomic(note, sync=False) as temp:
                temp.write_text(str(total + size))

    def _evict(self, room: int) -> int:
        """Remove entries until they take `room` bytes at most, or a tenth less where that is too
        much now, so that not every write has to; returns the bytes that are left."""
        entries = []
        for path in self.folder.glob(f"*/*{self.suffix}"):
            with suppress(OSError):  # another process removed it
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total <= room:
            return total
        newest = time.time_ns() - int(self.spared_s * 1e9)
        for used, size, path in sorted(entries):
            if total <= _KEPT * room or used > newest:
                break
            with suppress(OSError):
                path.unlink()
            total -= size
        return total
