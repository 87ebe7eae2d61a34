"""A line on the terminal that says how far a long command is."""

from __future__ import annotations

from typing import IO

from tqdm import tqdm


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
