"""One reader for every checkpoint: restricted, bounded, and deaf to what the environment says."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pillsnap.core.errors import CheckpointError
from pillsnap.core.printable import listed, printable
from pillsnap.engines.torch.leftovers import leftover_hint
from pillsnap.engines.torch.torchfile.budget import Budget, Unreadable
from pillsnap.engines.torch.torchfile.container import Stream, open_archive
from pillsnap.engines.torch.torchfile.guard import guarded
from pillsnap.engines.torch.torchfile.machine import run_pickle
from pillsnap.engines.torch.torchfile.maker import CheckpointMaker, NameCollector
from pillsnap.engines.torch.torchfile.tensors import Tensors

if TYPE_CHECKING:
    import torch

# What the old format begins with, and the version of it that is known.
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001


def read_checkpoint(
    path: Path, layers: Mapping[str, type[torch.nn.Module]], hint: str | None = None
) -> Any:
    """What torch.save wrote into a file: plain values, tensors on the CPU, layers, stand-ins.

    Memory stays near the size of the file.

    Args:
        layers: class by dotted name of the layers that are made; those of others are stand-ins.
        hint: what to do when the file needs a name that is not on the list.

    Raises:
        CheckpointError: it would run code, is damaged, or asks for more than it holds.
    """
    import torch  # noqa: F401  # not while guarded: importing it opens libraries

    budget = Budget()
    try:
        with guarded():
            return _read(path, layers, budget)
    except _Refused as refused:
        raise CheckpointError(
            "the checkpoint is refused: loading it would call code that is not on the safe list",
            where=path,
            got=listed(refused.names, 5, 100),
            expected="tensors and plain values; for a detector an Ultralytics model",
            hint=leftover_hint(refused.names) or hint,
        ) from None
    except Exception as error:  # damaged pickles and archives raise a dozen types
        _refuse(path, error)


def pickled_names(path: Path) -> set[str]:
    """Dotted names of the globals in a checkpoint in zip format; none in one that is damaged, and
    CheckpointError for one that asks for more than it holds."""
    names = NameCollector()
    try:
        with open_archive(path) as archive:
            run_pickle(archive.pickle(), 0, names, Budget())
    except Unreadable as error:
        _refuse(path, error)
    except Exception:  # its loader says what is wrong with the file
        return set()
    return names.names


class _Refused(Exception):
    def __init__(self, names: list[str]) -> None:
        self.names = names


def _read(path: Path, layers: Mapping[str, type[torch.nn.Module]], budget: Budget) -> Any:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if zipped:
        with open_archive(path) as archive:
            maker = CheckpointMaker(Tensors(archive.read_storage, budget), layers, budget)
            content, _ = _made(archive.pickle(), 0, maker, budget)
            return content
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        at = 0
        for wanted in (_MAGIC, _VERSION, None):  # the last is of the machine that wrote it
            found, at = run_pickle(data, at, NameCollector(), budget)
            if wanted is not None and found != wanted:
                raise ValueError("a pickle without torch's head")
        stream = Stream(len(data))
        maker = CheckpointMaker(Tensors(stream.read_storage, budget), layers, budget)
        content, at = _made(data, at, maker, budget)
        keys, at = run_pickle(data, at, NameCollector(), budget)
        stream.fill(keys, data, at)
        return content


def _made(
    data: bytes | mmap, start: int, maker: CheckpointMaker, budget: Budget
) -> tuple[Any, int]:
    try:
        made = run_pickle(data, start, maker, budget)
        budget.require_values()
    finally:
        if maker.refused:  # says more than an error that may come of it
            raise _Refused(sorted(maker.refused))
    return made


def _refuse(path: Path, error: Exception) -> NoReturn:
    if isinstance(error, Unreadable):
        raise CheckpointError(error.what, where=path, got=error.got, hint=error.hint) from error
    reason = "the zip archive's end is missing" if isinstance(error, zipfile.BadZipFile) else ""
    raise CheckpointError(
        "the checkpoint is damaged, or was not written by torch.save",
        where=path,
        got=printable(reason or str(error).strip() or type(error).__name__, 200),
        hint="copy or save the file again; it may have been cut off while it was written",
    ) from error
