"""How far a long command is, and what failed."""

from __future__ import annotations

from collections import Counter
from typing import IO, Any

from tqdm import tqdm

from pillsnap.core.printable import printable


class Progress:
    """A bar over `total` images on `stream`; nothing where that is no terminal."""

    def __init__(self, total: int, stream: IO[str]) -> None:
        self._bar = tqdm(total=total, file=stream, disable=None, leave=False, unit=" images")

    def advance(self, *, failed: int) -> None:
        """One image more is done; `failed` of all those done so far could not be read."""
        if failed:
            self._bar.set_postfix_str(f"{failed} unreadable", refresh=False)
        self._bar.update()

    def clear(self) -> None:
        """Make room for another line."""
        self._bar.clear()

    def close(self) -> None:
        self._bar.close()


class Tally:
    """Names on `stream` the images that have no result, beside a bar over all of them.

    Attributes:
        failed: how many could not be "read" or "answered".
    """

    def __init__(self, total: int, stream: IO[str]) -> None:
        self.failed: Counter[str] = Counter()
        self._stream = stream
        self._progress = Progress(total, stream)

    def note(self, result: dict[str, Any]) -> None:
        """One image more is done."""
        if "error" in result:
            self.failed["answered" if "models" in result else "read"] += 1
            self._progress.clear()
            print(printable(f"{result['image']}: {result['error']}"), file=self._stream)
        self._progress.advance(failed=self.failed.total())

    def close(self) -> None:
        self._progress.close()
