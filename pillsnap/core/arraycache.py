"""Arrays remembered on disk under a key that names everything they depend on.

What the reference answers does not change between engines, providers and precisions, so it is
computed once. An entry is checked against its hash whenever it is read; a damaged one is computed
anew. The folder is bounded: what was used longest ago goes first.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.arrayfiles import read_npy
from pillsnap.core.boundedfolder import BoundedFolder
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import file_lock, replace_atomic
from pillsnap.core.logrecords import open_log
from pillsnap.core.regularfiles import open_regular

log = open_log(__name__)

Array = NDArray[Any]

_DIGEST = hashlib.sha256().digest_size


class ArrayCache:
    """A folder of arrays, shared by processes.

    Args:
        folder: made when the first entry is written.
        limit: most bytes of all entries together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._entries = BoundedFolder(folder, ".npy", limit)

    def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Array],
        fits: Callable[[Array], bool] = lambda _: True,
    ) -> Array:
        """The array of a key (64 hex digits): remembered, or computed by one process at a time.

        A folder that cannot be written costs the memory, not the run.

        Args:
            fits: whether a remembered array can be what `compute` gives.
        """
        path = self._entries.place_of(key)
        found = _read(path, fits)
        if found is not None:
            return found
        with ExitStack() as stack:
            try:
                stack.enter_context(file_lock(path.with_name(".lock")))
            except PillsnapError as error:
                log.warning("the reference cache cannot be used: %s", error)
                return compute()
            found = _read(path, fits)  # another process may have been faster
            if found is None:
                found = compute()
                self._write(path, found)
            return found

    def _write(self, path: Path, array: Array) -> None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        data = buffer.getbuffer()
        size = _DIGEST + len(data)
        if size > self._entries.limit:
            return
        try:
            self._entries.make_room(size)
            # Not synced to the disk: after a power cut the hash tells, and nothing is lost.
            with replace_atomic(path, sync=False) as temp, temp.open("wb") as file:
                file.write(hashlib.sha256(data).digest())
                file.write(data)
        except PillsnapError as error:
            log.warning("the reference cache cannot be written: %s", error)


def _read(path: Path, fits: Callable[[Array], bool]) -> Array | None:
    """A whole entry, now the one used last; None where there is none or it is damaged."""
    try:
        with open_regular(path) as file:
            data = file.read()
    except OSError:
        return None
    content = memoryview(data)[_DIGEST:]
    try:
        if hashlib.sha256(content).digest() != data[:_DIGEST]:
            raise ValueError("its hash")
        array: Array = read_npy(io.BytesIO(content), len(content))
        if not fits(array):
            raise ValueError(f"{array.dtype} {list(array.shape)}")
    except ValueError as error:
        log.warning("a damaged entry of the reference cache is computed anew: %s: %s", path, error)
        return None
    with suppress(OSError):
        os.utime(path)
    return array
