"""Folders that appear whole or not at all; as with files, what has no holder is abandoned."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pillsnap.core.files import make_folder


@contextmanager
def appearing_folder(root: Path) -> Iterator[Path]:
    """Yield a hidden, empty folder beside `root` that takes its name when the block ends well; it
    is removed when the block or the renaming fails.

    Raises:
        PillsnapError: it cannot be made.
        OSError: it cannot be renamed, as where another process was faster.
    """
    folder, descriptor = _held_folder(root)
    try:
        yield folder
        folder.rename(root)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_abandoned_folders(root: Path) -> None:
    """Remove what killed processes left of `root` in the making."""
    for folder in root.parent.glob(glob.escape(f".{root.name}.") + "*"):
        with suppress(OSError):  # it is held, a file, or gone
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _held_folder(root: Path) -> tuple[Path, int]:
    """A new hidden folder for `root`, and the descriptor by which it is locked."""
    while True:
        # Unique without a look at the file system, also between machines that share a disk.
        folder = root.with_name(f".{root.name}.{secrets.token_hex(16)}")
        make_folder(folder)
        with suppress(FileNotFoundError):  # it was taken for abandoned before it was locked
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with suppress(OSError):  # without locks, no process takes a folder for abandoned
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.is_dir():
                return folder, descriptor
            os.close(descriptor)
