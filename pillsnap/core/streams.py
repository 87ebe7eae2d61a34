"""Standard output, which may lead to a disk that is full."""

from __future__ import annotations

from typing import TextIO

from pillsnap.core.errors import PillsnapError


def print_line(line: str, stream: TextIO) -> None:
    """Print to standard output, at once.

    Raises:
        PillsnapError: it cannot be written to.
    """
    try:
        print(line, file=stream, flush=True)
    except OSError as error:
        raise PillsnapError(
            "cannot write",
            where="standard output",
            got=error.strerror,
            hint="check where it leads, and the space that is left there",
        ) from error
