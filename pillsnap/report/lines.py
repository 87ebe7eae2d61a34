"""Lines of the terminal's section: foreign text made printable, and cut to 80 columns."""

from __future__ import annotations

import textwrap

from pillsnap.core.printable import printable

WIDTH = 80


def one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def wrap(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_on_hyphens=False,
        break_long_words=False,  # paths are there to be copied
    )
