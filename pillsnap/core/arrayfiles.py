""".npy files from elsewhere: a head as numpy writes it, and as many bytes as it says, or nothing.

numpy's own reader evaluates the head as Python, allocates what it claims, and takes archives and
pickles for arrays.
"""

from __future__ import annotations

import math
import re
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY\x01\x00"
_HEAD = re.compile(
    rb"\{'descr': '([<|][biuf][1248])', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n"
)
_MOST_AXES = 32


def read_npy_head(file: BinaryIO, size: int) -> tuple[np.dtype[Any], tuple[int, ...], str]:
    """Type, shape and order (C or F) of an array of numbers; the file is left where it begins.

    Args:
        file: at the beginning of the .npy.
        size: bytes from there to the end, which the array must fill.

    Raises:
        ValueError: no such file.
    """
    start = file.read(len(_MAGIC) + 2)
    if not start.startswith(_MAGIC):
        raise ValueError("not a .npy file of version 1")
    length = int.from_bytes(start[len(_MAGIC) :], "little")
    found = _HEAD.fullmatch(file.read(length))
    if found is None:
        raise ValueError("a .npy head that numpy does not write for numbers")
    try:
        dtype = np.dtype(found[1].decode())
    except TypeError:
        raise ValueError(f"no type {found[1].decode()}") from None
    shape = tuple(int(part) for part in found[3].split(b",") if part.strip())
    held = size - len(start) - length
    if len(shape) > _MOST_AXES or math.prod(shape) * dtype.itemsize != held:
        raise ValueError(f"{held} bytes for an array of shape {shape[:_MOST_AXES]}")
    return dtype, shape, "F" if found[2] == b"True" else "C"


def read_npy(file: BinaryIO, size: int) -> NDArray[Any]:
    """The array itself; arguments and errors as read_npy_head."""
    dtype, shape, order = read_npy_head(file, size)
    flat = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
    return np.array(flat.reshape(shape, order="F" if order == "F" else "C"))
