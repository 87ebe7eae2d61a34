"""How far a long command is, and what failed."""

from __future__ import annotations

from collections import Counter
from typing import IO, Any

from tqdm import tqdm

from pillsnap.core.printable import printable


class Tally:
    """Names on `stream` the images that have no result, beside a bar over all `total` of them where
    that is a terminal; `failed` counts those that could not be "read" or "answered"."""

    def __init__(self, total: int, stream: IO[str]) -> None:
        self.failed: Counter[str] = Counter()
        self._stream = stream
        self._bar = tqdm(total=total, file=stream, disable=None, leave=False, unit=" images")

    def note(self, result: dict[str, Any]) -> None:
        """One image more is done."""
        if "error" in result:
            self.failed["answered" if "models" in result else "read"] += 1
            self._bar.clear()
            print(printable(f"{result['image']}: {result['error']}"), file=self._stream)
            self._bar.set_postfix_str(f"{self.failed.total()} unreadable", refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()
