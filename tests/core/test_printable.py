"""Foreign text in one printable line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillsnap.core.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("알약 é.png", "알약 é.png"),
        ("a\x1b[31mb\nc", r"a\x1b[31mb\nc"),
        ("\udcff\u202e\u2028\x9b", r"\udcff\u202e\u2028\x9b"),
        (7, "7"),
    ],
)
def test_what_does_not_print_is_escaped(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_cut() -> None:
    assert printable("abcdef", most=4) == "abc…"


@given(st.text())
def test_it_is_one_line_that_can_be_written(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode()
