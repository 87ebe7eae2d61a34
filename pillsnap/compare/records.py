"""Per-sample records: columns of a shard on disk, and a cell's columns in sample order.

A shard's file is a line of JSON that says where each column lies, and the columns' bytes behind it.
So one column of a million samples is read without the others, and nothing else stays in memory.
Ragged columns (boxes) are one array of rows, and `<name>_count` rows per sample beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import write_atomic

Array = NDArray[Any]
Columns = Mapping[str, Array]


class RecordsError(PillsnapError):
    """A shard's file is missing, or is not what its worker wrote."""


def write_records(
    path: Path, columns: Columns, write: Callable[[Path, bytes], None] = write_atomic
) -> str:
    """Write a shard's columns; returns the file's SHA-256.

    Raises:
        TypeError: a column of objects or of a structured type.
        PillsnapError: the file cannot be written.
    """
    index: dict[str, list[Any]] = {}
    parts: list[bytes] = []
    offset = 0
    for name, column in columns.items():
        if column.dtype.hasobject or column.dtype.names:
            raise TypeError(f"column {name} cannot be recorded: {column.dtype}")
        data = np.ascontiguousarray(column).tobytes()
        index[name] = [column.dtype.str, list(column.shape), offset]
        parts.append(data)
        offset += len(data)
    content = b"".join([json.dumps(index).encode(), b"\n", *parts])
    write(path, content)
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class _Part:
    """A shard's file: where its columns start, and each one's dtype, shape and place behind."""

    path: Path
    start: int
    index: dict[str, list[Any]]

    def read(self, name: str) -> Array:
        dtype, shape, offset = self.index[name]
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.start + offset)
                flat = np.fromfile(file, np.dtype(dtype), math.prod(shape))
            return flat.reshape(shape)
        except (OSError, ValueError) as error:
            raise RecordsError(
                "a shard's records are gone or were cut", where=self.path, got=error
            ) from error


class Records(Mapping[str, Array]):
    """The columns of several shards, in the order given (the order of the samples).

    A column is read from disk whenever it is asked for, and is not kept.

    Args:
        files: path and SHA-256 of each shard's file, as `write_records` returned it.

    Raises:
        RecordsError: a file is gone, or changed since it was written.
    """

    def __init__(self, files: Sequence[tuple[Path, str]]) -> None:
        self._parts = [_open(path, sha256) for path, sha256 in files]

    def __getitem__(self, name: str) -> Array:
        return np.concatenate([part.read(name) for part in self._parts])

    def __contains__(self, name: object) -> bool:
        return name in self._parts[0].index  # the mixin's would read the column

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts[0].index)

    def __len__(self) -> int:
        return len(self._parts[0].index)

    def chunks(self, *names: str) -> Iterator[tuple[Array, ...]]:
        """The named columns shard by shard: what need not be in memory at once."""
        for part in self._parts:
            yield tuple(part.read(name) for name in names)

    def take(self, name: str, rows: Sequence[int]) -> list[Any]:
        """The values of some samples, as Python objects."""
        counts = [part.index[name][1][0] for part in self._parts]
        ends = np.cumsum(counts)
        values = []
        for row in rows:
            part = int(np.searchsorted(ends, row, side="right"))
            values.append(self._parts[part].read(name)[row - (ends[part] - counts[part])].tolist())
        return values


def _open(path: Path, sha256: str) -> _Part:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            file.seek(0)
            head = file.readline()
    except OSError as error:
        raise RecordsError("a shard's records are gone", where=path, got=error.strerror) from error
    if digest.hexdigest() != sha256:
        raise RecordsError("a shard's records changed after they were written", where=path)
    return _Part(path, len(head), json.loads(head))


def concatenate(parts: Sequence[Columns]) -> dict[str, Array]:
    """Columns of several batches, in the order given (the order of the samples)."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def ragged(
    name: str, rows: Sequence[Array], width: int, dtype: type = np.float32
) -> dict[str, Array]:
    """A ragged column: one [k, width] array per sample, as rows and counts."""
    counts = np.array([len(row) for row in rows], dtype=np.int64)
    stacked = np.concatenate(
        [np.reshape(row, (-1, width)) for row in rows] or [np.empty((0, width))]
    )
    return {name: stacked.astype(dtype), f"{name}_count": counts}


def unragged_rows(columns: Columns, name: str, rows: Sequence[int]) -> Iterator[Array]:
    """The arrays of some samples that `ragged` put in."""
    ends, values = np.cumsum(columns[f"{name}_count"]), columns[name]
    for row in rows:
        yield values[ends[row - 1] if row else 0 : ends[row]]


def unragged(columns: Columns, name: str) -> list[Array]:
    """The arrays that `ragged` put in, one per sample."""
    ends = np.cumsum(columns[f"{name}_count"])
    return np.split(columns[name], ends[:-1]) if len(ends) else []
