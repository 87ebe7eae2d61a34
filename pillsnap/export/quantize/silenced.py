"""Quantisers without their noise and side effects."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

from pillsnap.core.errors import ExportError, PillsnapError, first_line


@contextlib.contextmanager
def quantising(where: object, who: str = "ONNX Runtime") -> Iterator[None]:
    """Run a quantiser in this block: log lines, prints and warnings are kept back. For the
    ExportError in place of whatever it raises, `where` is what is quantised, and `who` it is."""
    root, level = logging.getLogger(), logging.root.manager.disable
    # logging.warning() gives a root logger without handlers one that prints, and it stays.
    silent = logging.NullHandler()
    root.addHandler(silent)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except PillsnapError:
        raise
    except Exception as error:  # it raises ValueError, TypeError, AssertionError and onnx's own
        raise ExportError(
            f"{who} cannot quantise the model",
            where=where,
            got=first_line(error),
            hint="leave the named nodes float, or take --precision fp16",
        ) from error
    finally:
        logging.disable(level)
        root.removeHandler(silent)
