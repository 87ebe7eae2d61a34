"""pytest's warning filters, which are about a project's tests and not about its photos."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


def drop_errors(config: pytest.Config) -> None:
    """In this session no warning is an error: a gate fails by its verdict, not by what another
    plugin, Python or a folder that cannot be written makes somebody warn of.

    Called before pytest applies its filters, which it still lists warnings by.
    """
    lines: list[str] = config.getini("filterwarnings")
    options: list[str] = config.known_args_namespace.pythonwarnings or []
    for filters in (lines, options):
        filters[:] = [line for line in filters if not _is_error(line)]
    if any(entry[0] == "error" for entry in warnings.filters):  # of PYTHONWARNINGS or python -W
        lines.insert(0, "default")  # before all that the project says


def _is_error(line: str) -> bool:
    """Whether a filter's action is error, which may be cut short."""
    action = line.partition(":")[0].strip()
    return bool(action) and "error".startswith(action)


@contextmanager
def warnings_stay_warnings() -> Iterator[None]:
    """No filter turns a warning into an error in this block; pytest still lists what is warned of.

    A damaged EXIF block, of which Pillow only warns, would otherwise make a photo unreadable in the
    gate alone, and a warning of torch a checkpoint damaged.
    """
    with warnings.catch_warnings():
        kept = [entry for entry in warnings.filters if entry[0] != "error"]
        # No function takes a filter away; this list is a copy, gone with the block.
        warnings.filters[:] = kept  # type: ignore[index]
        yield
