"""Running torch's ONNX exporter: silently, without side effects, with errors that can be read."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.core.errors import ExportError, PillsnapError, first_line

if TYPE_CHECKING:
    import onnx

# What each of torch's exporters can write. Asked for less, dynamo writes 18 and only warns.
_OPSETS = {"torchscript": (13, 20), "dynamo": (18, 22)}
_ADVISED_OPSET = 18


@dataclass(frozen=True)
class Traced:
    """A graph that the exporter wrote.

    Attributes:
        model: without metadata; one input, one output.
        params_million: parameters of the module it was traced from.
        architecture: name of the network.
        strides: pixels per cell of each detection head; () for a classifier.
        entry: of the checkpoint, see Origin.
    """

    model: onnx.ModelProto
    params_million: float
    architecture: str
    strides: tuple[int, ...] = ()
    entry: str = ""


@contextlib.contextmanager
def exporting(checkpoint: Path, opset: int, exporter: str = "torchscript") -> Iterator[None]:
    """Run an exporter in this block.

    Warnings, log lines and prints of the exporters are kept back, and the number of torch's threads
    is put back afterwards: ultralytics sets it when it selects a device. A torch.onnx.export that
    does not say which it means, as of ultralytics before 8.3.215, is by `exporter`: torch itself
    took torchscript before 2.9, and dynamo since. Whatever the exporter raises comes out as an
    ExportError.
    """
    import torch

    least, most = _OPSETS[exporter]
    if not least <= opset <= most:
        other = next(name for name in _OPSETS if name != exporter)
        raise ExportError(
            f"the {exporter} exporter cannot write this opset",
            where="export.opset",
            got=opset,
            expected=f"{least} to {most}",
            hint=f"set export.opset (or OPSET) to {_ADVISED_OPSET}, or export.exporter to {other}",
        )
    threads = torch.get_num_threads()
    loggers = [logging.getLogger(name) for name in ("ultralytics", "torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    export: Any = torch.onnx.export
    own = {"dynamo": exporter == "dynamo"}
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), _without_stdout():
            warnings.simplefilter("ignore")
            torch.onnx.export = lambda *args, **given: export(*args, **{**own, **given})
            yield
    except PillsnapError:
        raise
    except Exception as error:  # exporters raise anything, AssertionError included
        raise _failure(error, checkpoint, opset, exporter) from error
    finally:
        torch.onnx.export = export
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def _without_stdout() -> Iterator[None]:
    """Drop what is printed: from C++ too, since torch prints the whole graph when it gives up."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _failure(error: Exception, checkpoint: Path, opset: int, exporter: str) -> ExportError:
    text = str(error).strip() or type(error).__name__
    other = {
        "torchscript": "dynamo writes much that torchscript cannot: set export.exporter: dynamo "
        f"and export.opset: {_ADVISED_OPSET}",
        "dynamo": "torchscript may: set export.exporter: torchscript, export.opset at most 20",
    }[exporter]
    operator = re.search(r"operator '([^']+)'", text)
    if operator is None or "not supported" not in text:
        return ExportError(
            f"the {exporter} exporter failed",
            where=checkpoint,
            got=first_line(error.__cause__ or error),
            hint=other,
        )
    added = re.search(r"added in version (\d+)", text)
    needed = int(added[1]) if added else opset
    hint = other
    if opset < needed <= _OPSETS[exporter][1]:
        wanted = max(needed, _ADVISED_OPSET)
        hint = f"try opset {wanted}: OPSET={wanted}, or export.opset: {wanted} in the config"
    since = f"; opset {added[1]} has it" if added else ""
    return ExportError(
        f"the {exporter} exporter cannot write the operator {operator[1]} at opset {opset}",
        where=checkpoint,
        got=f"opset {opset}{since}",
        hint=hint,
    )
