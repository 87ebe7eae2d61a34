"""A standard output that cannot be written to: the run goes on, since its report is what counts."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import pytest


class Lasting:
    """A text stream that takes everything, also when its disk is full or its reader has gone.

    Attributes:
        lost: it has failed, and nothing is written any more.
    """

    def __init__(self, stream: TextIO) -> None:
        self.lost = False
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return len(text) if self.lost else self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            if not self.lost:
                self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = True
        # Or Python would fail on its way out by what the stream still holds.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        with suppress(OSError):
            self._stream.flush()
            sys.stderr.write(f"standard output is lost ({error.strerror}); the run goes on\n")


def keep_stdout(config: pytest.Config) -> None:
    """Have pytest write to a stream that lasts; called before its terminal takes the other."""
    found: TextIO | None = sys.stdout  # None where it is closed, as by `>&-`
    nowhere = Path(os.devnull)
    lasting = Lasting(found or nowhere.open("w", encoding="utf-8"))
    sys.stdout = lasting

    def hand_back() -> None:
        capture = config.pluginmanager.get_plugin("capturemanager")
        if capture is not None:
            capture.stop_global_capturing()  # which puts back a stream of its own choice
        lasting.flush()
        # pytest flushes it once more.
        sys.stdout = lasting if found is None or lasting.lost else found

    config.add_cleanup(hand_back)
