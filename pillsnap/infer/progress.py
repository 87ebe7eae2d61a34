"""A line on the terminal that says how far a long command is."""

from __future__ import annotations

import time
from typing import IO

_WIDTH = 30
_SECONDS = 0.1


class Progress:
    """A bar over `total` items on `stream`; nothing where that is no terminal."""

    def __init__(self, total: int, stream: IO[str]) -> None:
        self._total = total
        self._stream = stream
        self._shown = stream.isatty()
        self._start = time.monotonic()
        self._drawn = float("-inf")
        self._done = 0

    def advance(self, *, failed: int) -> None:
        """One item more is done; `failed` of all those done so far could not be read."""
        self._done += 1
        now = time.monotonic()
        if not self._shown or (now - self._drawn < _SECONDS and self._done < self._total):
            return
        self._drawn = now
        bar = ("#" * (_WIDTH * self._done // self._total)).ljust(_WIDTH, ".")
        rate = self._done / max(now - self._start, 1e-9)
        trouble = f"  {failed} unreadable" if failed else ""
        self._stream.write(f"\r[{bar}] {self._done}/{self._total}  {rate:.1f} images/s{trouble}")
        self._stream.flush()

    def clear(self) -> None:
        """Make room for another line."""
        if self._shown:
            self._stream.write("\r\033[K")
            self._stream.flush()
            self._drawn = float("-inf")
