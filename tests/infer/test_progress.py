"""The line that says how far a long command is."""

from __future__ import annotations

import io

from pillsnap.infer.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_how_far_it_is_and_what_failed() -> None:
    terminal = Terminal()
    progress = Progress(2, terminal)
    progress.advance(failed=0)
    first = terminal.getvalue()
    assert "1/2" in first
    assert "unreadable" not in first
    progress.advance(failed=1)
    assert "2/2" in terminal.getvalue()
    assert "1 unreadable" in terminal.getvalue()
    progress.clear()
    assert terminal.getvalue().endswith("\r\033[K")


def test_a_file_is_told_nothing() -> None:
    stream = io.StringIO()
    progress = Progress(1, stream)
    progress.advance(failed=1)
    progress.clear()
    assert stream.getvalue() == ""
