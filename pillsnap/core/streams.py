"""Standard streams that cannot be written to any more."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TextIO


def let_go(stream: TextIO) -> None:
    """Lead a stream that has failed nowhere, or Python would fail on its way out by what the stream
    still holds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    with suppress(OSError):
        stream.flush()
