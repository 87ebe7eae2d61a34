"""pytest's warning filters, which are about a project's tests and not about its photos."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


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
