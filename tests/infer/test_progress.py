"""The line that says how far a long command is."""

from __future__ import annotations

import io
import time

from pillsnap.infer.progress import Progress

# It draws ten times a second at most.
DRAWN_S = 0.15


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_how_far_it_is_and_what_failed() -> None:
    terminal = Terminal()
    progress = Progress(3, terminal)
    time.sleep(DRAWN_S)
    progress.advance(failed=0)
    first = terminal.getvalue()
    assert "1/3" in first
    assert "unreadable" not in first
    time.sleep(DRAWN_S)
    progress.advance(failed=1)
    assert "2/3" in terminal.getvalue()
    assert "1 unreadable" in terminal.getvalue()
    for make_room in (progress.clear, progress.close):
        make_room()
        *_, line, rest = terminal.getvalue().split("\r")
        assert line.strip() == rest == ""


def test_a_file_is_told_nothing() -> None:
    stream = io.StringIO()
    progress = Progress(1, stream)
    progress.advance(failed=1)
    progress.clear()
    progress.close()
    assert stream.getvalue() == ""
