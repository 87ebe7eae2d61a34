"""Loggers whose records forge no line and steer no terminal, whatever handler has them."""

from __future__ import annotations

import logging
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from pillsnap.core.errors import PillsnapError
from pillsnap.core.printable import printable


def open_log(name: str) -> logging.Logger:
    """The logger of a module; what its records are filled with is made printable."""
    log = logging.getLogger(name)
    log.addFilter(_make_printable)
    return log


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """What pillsnap warns of in this block, for where no log is shown: pytest keeps it back."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    collector, logger = Collector(logging.WARNING), logging.getLogger("pillsnap")
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)


class _Shown:
    """An argument of a record, printable however it is formatted."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        # The lines of our own errors were made printable one by one.
        own = isinstance(self._value, PillsnapError)
        return str(self._value) if own else printable(self._value)

    def __repr__(self) -> str:
        return printable(repr(self._value))


def _make_printable(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            arg if isinstance(arg, int | float) else _Shown(arg) for arg in record.args
        )
    if record.exc_info:
        lines = "".join(traceback.format_exception(record.exc_info[1])).rstrip().split("\n")
        record.exc_text = textwrap.indent("\n".join(map(printable, lines)), "  ")
    return True
