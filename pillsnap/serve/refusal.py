"""Answers to requests that are not served: a status, and a message without paths of the server."""

from __future__ import annotations

import re

from pillsnap.core.errors import PillsnapError
from pillsnap.core.printable import printable

# Folders of a path; its last part, which the client has mostly given itself, stays.
_FOLDERS = re.compile(r"(?<![\w.])~?/(?:[^\s/'\":,;]+/)*")


class Refusal(Exception):
    """A request that is answered with an error: an HTTP status from 400 on, and for the client what
    is wrong and what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = printable(message)  # names of files need not be text that JSON can carry


def public_message(error: PillsnapError) -> str:
    """An error in one line for a client: without its place, and without folders in the rest."""
    lines = [line for line in str(error).splitlines() if not line.startswith("  where:")]
    text = "; ".join(" ".join(line.split()) for line in lines)
    return printable(_FOLDERS.sub("", text))
