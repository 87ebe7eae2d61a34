"""Per-sample records of a shard, column by column on disk, and their concatenation.

A shard's file is an .npz of plain columns: `id` (unicode), one row a sample, and ragged columns
(boxes) as one array of rows plus `<name>_count` per sample. Files are written once and atomically.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.artifacts import write_atomic
from pillsnap.errors import PillsnapError

Columns = dict[str, NDArray[Any]]


class RecordsError(PillsnapError):
    """A shard's file is missing, or is not what its worker wrote."""


def write_records(path: Path, columns: Mapping[str, NDArray[Any]]) -> str:
    """Write a shard's columns; returns the file's SHA-256."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **columns)
    data = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


def read_records(path: Path, sha256: str) -> Columns:
    """Read a shard's columns back, refusing a file that changed since it was written."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordsError("a shard's records are gone", where=path, got=error.strerror) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RecordsError("a shard's records changed after they were written", where=path)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def concatenate(shards: Sequence[Columns]) -> Columns:
    """Columns of all shards, in the order given (the order of the samples)."""
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}


def ragged(name: str, rows: Sequence[NDArray[Any]], width: int) -> Columns:
    """A ragged column: one [k, width] float32 array per sample, as rows and counts."""
    counts = np.array([len(row) for row in rows], dtype=np.int64)
    stacked = np.concatenate(
        [np.reshape(row, (-1, width)) for row in rows] or [np.empty((0, width))]
    )
    return {name: stacked.astype(np.float32), f"{name}_count": counts}


def unragged(columns: Columns, name: str) -> Iterable[NDArray[Any]]:
    """The arrays that `ragged` put in, one per sample."""
    ends = np.cumsum(columns[f"{name}_count"])
    return np.split(columns[name], ends[:-1]) if len(ends) else []
