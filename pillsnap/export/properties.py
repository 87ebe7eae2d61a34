"""The metadata of an .onnx file, without its weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Of ModelProto.metadata_props in onnx.proto.
_METADATA = 14
# Wire types of protobuf (protobuf.dev/programming-guides/encoding).
_VARINT, _64_BIT, _LENGTH, _32_BIT = 0, 1, 2, 5
# More is no entry of ours.
_MOST_BYTES = 2**20
# A model has a graph, and a few dozen entries around it.
_MOST_FIELDS = 10_000


def read_properties(path: Path) -> dict[str, str]:
    """Metadata of a model by key; {} for what is no protobuf. Everything else is skipped unread, so
    that a model of any size takes about as long as an empty one.
    OSError where the file cannot be read."""
    from onnx import StringStringEntryProto

    found: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            for data in _fields(file, _METADATA):
                entry = StringStringEntryProto.FromString(data)
                found[entry.key] = entry.value
    except OSError:
        raise
    except Exception:  # protobuf's DecodeError has other bases in other versions
        return {}
    return found


def _fields(file: BinaryIO, wanted: int) -> Iterator[bytes]:
    """The content of every field of that number in the outermost message."""
    end = os.fstat(file.fileno()).st_size
    for _ in range(_MOST_FIELDS):
        tag = _varint(file)
        if tag is None:
            return
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _varint(file)
        elif kind in (_64_BIT, _32_BIT):
            file.seek(8 if kind == _64_BIT else 4, os.SEEK_CUR)
        elif kind == _LENGTH:
            size = _varint(file)
            if size is None or size > end:
                return
            if number == wanted and size <= _MOST_BYTES:
                yield file.read(size)
            else:
                file.seek(size, os.SEEK_CUR)
        else:
            raise ValueError(f"wire type {kind}")


def _varint(file: BinaryIO) -> int | None:
    """An unsigned integer of at most 64 bits; None at the end of the file."""
    value = 0
    for place in range(10):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << 7 * place
        if byte[0] < 0x80:
            return value
    raise ValueError("no varint")
