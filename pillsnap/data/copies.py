"""Files of the same bytes, found by reading as little of them as that takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from itertools import pairwise
from pathlib import Path
from typing import Any

from pillsnap.core.errors import PillsnapError
from pillsnap.core.hashes import sha256_file
from pillsnap.core.regularfiles import open_regular

# Photos without compression are all of one size, and this tells most of them apart.
_PIECE_BYTES = 4096


class SeenFiles:
    """Files that were looked at. One whose size no other has is not opened."""

    def __init__(self) -> None:
        # By size, piece and SHA-256; where a file is alone, it stands in place of what is below.
        self._seen: dict[Any, Any] = {}

    def is_copy(self, path: Path, group: Hashable = None) -> bool:
        """Whether a file of the group with the same bytes was looked at before; no for one that
        cannot be read."""
        found = self._seen.setdefault(group, {})
        try:
            for describe, finer in pairwise(_LEVELS):
                key = describe(path)
                if key not in found:
                    found[key] = path
                    return False
                if isinstance(found[key], Path):
                    found[key] = {finer(found[key]): found[key]}
                found = found[key]
            return found.setdefault(sha256_file(path), path) is not path
        except (OSError, ValueError, PillsnapError):
            return False


def _size(path: Path) -> int:
    return path.stat().st_size


def _piece(path: Path) -> bytes:
    """Of its middle: the beginnings of photos are alike."""
    with open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _PIECE_BYTES) // 2)
        return file.read(_PIECE_BYTES)


_LEVELS: tuple[Callable[[Path], Hashable], ...] = (_size, _piece, sha256_file)
