"""Files of the same bytes, found by reading as little of them as that takes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import pairwise
from pathlib import Path
from typing import Any

from pillsnap.core.errors import PillsnapError
from pillsnap.core.filesystems import RemoteError
from pillsnap.core.hashes import sha256_file
from pillsnap.core.regularfiles import open_regular
from pillsnap.core.remote import RemotePath

# Photos without compression are all of one size, and this tells most of them apart.
_PIECE_BYTES = 4096


class SeenFiles:
    """Files that were looked at. One whose size no other has is not opened."""

    def __init__(self) -> None:
        # By size, piece and SHA-256; where a file is alone, it stands in place of what is below.
        self._seen: dict[Any, Any] = {}

    def is_copy(self, path: Path, group: Hashable = None) -> bool:
        """Whether a file of the group with the same bytes was looked at before; no for one that
        cannot be read. RemoteError where it cannot be known."""
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
        except RemoteError:
            raise
        except (OSError, ValueError, PillsnapError):
            return False


def _size(path: Path) -> int:
    return path.stat().st_size


def _piece(path: Path) -> bytes:
    """Of its middle: the beginnings of photos are alike."""
    start = max(0, _size(path) - _PIECE_BYTES) // 2
    if isinstance(path, RemotePath):
        return path.read_range(start, _PIECE_BYTES)
    with open_regular(path) as file:
        file.seek(start)
        return file.read(_PIECE_BYTES)


_LEVELS: tuple[Callable[[Path], Hashable], ...] = (_size, _piece, sha256_file)
