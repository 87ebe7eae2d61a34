"""Foreign text (names of files, classes, keys; metadata) made fit for a terminal, log or table."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection
from itertools import islice

# Control, format (direction marks among them), surrogates, private, unassigned, line, paragraph.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: object, most: int | None = None) -> str:
    """A text on one line that shows what is in it: whatever does not print is escaped as Python
    would write it, so nothing in it moves a cursor, starts a line or turns the writing round.

    Args:
        text: str() of it is taken; lone surrogates of undecodable file names are escaped too.
        most: characters to keep; a longer text is cut and ends in an ellipsis.
    """
    shown = "".join(ascii(letter)[1:-1] if _is_hidden(letter) else letter for letter in str(text))
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def listed(names: Collection[object], most: int, width: int | None = None) -> str:
    """The first names, printable and at most `width` characters each; how many more there are."""
    shown = ", ".join(printable(name, width) for name in islice(names, most))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def printable_json(text: str) -> str:
    """JSON text, lines and all, in which what does not print is a JSON escape: it means the same,
    encodes as UTF-8, and does no harm on a terminal."""
    return re.sub(
        r"[^\n -~]",
        lambda found: json.dumps(found[0])[1:-1] if _is_hidden(found[0]) else found[0],
        text,
    )


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in _HIDDEN
