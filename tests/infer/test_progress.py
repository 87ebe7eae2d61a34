"""The line that says how far a long command is."""

from __future__ import annotations

import io
import time

from pillsnap.infer.progress import Tally

# It draws ten times a second at most.
DRAWN_S = 0.15

BROKEN = {"image": "a.jpg", "error": "it is empty"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_how_far_it_is_and_what_failed() -> None:
    terminal = Terminal()
    tally = Tally(3, terminal)
    time.sleep(DRAWN_S)
    tally.note({})
    first = terminal.getvalue()
    assert "1/3" in first
    assert "unreadable" not in first
    time.sleep(DRAWN_S)
    tally.note(BROKEN)
    assert tally.failed == {"read": 1}
    *_, empty, line, _ = terminal.getvalue().split("\r")
    assert empty.strip() == ""
    assert line.startswith("a.jpg: it is empty\n")
    assert "2/3" in terminal.getvalue()
    assert "1 unreadable" in terminal.getvalue()
    tally.close()
    *_, line, rest = terminal.getvalue().split("\r")
    assert line.strip() == rest == ""


def test_a_file_is_told_what_failed_alone() -> None:
    stream = io.StringIO()
    tally = Tally(1, stream)
    tally.note(BROKEN)
    tally.close()
    assert stream.getvalue() == "a.jpg: it is empty\n"
