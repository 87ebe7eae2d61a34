"""What is shown of the errors of other libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

import pillsnap
from pillsnap.core.errors import first_line


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("\n first \nsecond"), "first"),
        (RuntimeError(), "RuntimeError"),
        (AssertionError(" \n"), "AssertionError"),
        ("a text\nof two lines", "a text"),
        ("", ""),
    ],
)
def test_an_error_is_shown_by_its_first_line_or_its_kind(
    error: Exception | str, shown: str
) -> None:
    assert first_line(error) == shown


def test_a_first_line_is_cut_where_it_would_fill_the_screen() -> None:
    assert first_line(ValueError("x" * 1000), 3) == "xxx"


def test_nobody_else_takes_the_first_line_of_what_may_have_none() -> None:
    files = Path(pillsnap.__file__).parent.rglob("*.py")
    assert [str(path) for path in files if "splitlines()[0]" in path.read_text()] == []
