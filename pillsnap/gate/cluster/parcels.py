"""Files on their way to nodes: by a path that all share where there is one, else as their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import file_lock, write_atomic
from pillsnap.core.hashes import sha256_file


@dataclass(frozen=True)
class Sent:
    """A file's SHA-256, and the handle that its bytes are fetched by."""

    sha256: str
    content: Any


@dataclass(frozen=True)
class Parcel:
    """Files of one folder of the driver that belong together, by name."""

    folder: Path
    files: dict[str, Sent]

    def lies_there(self) -> bool:
        """Whether the same files lie at the same place on this machine."""
        return all(_has(self.folder / name, sent) for name, sent in self.files.items())

    def write(self, into: Path, fetch: Callable[[Any], bytes]) -> None:
        """Write the files into a folder of this machine, once for all of its processes.

        Raises:
            PillsnapError: one cannot be written, or arrived as another than was sent.
        """
        with file_lock(into / ".lock"):
            for name, sent in self.files.items():
                if _has(into / name, sent):
                    continue
                content = fetch(sent.content)
                found = hashlib.sha256(content).hexdigest()
                if found != sent.sha256:
                    raise PillsnapError(
                        "a file arrived as another than was sent",
                        where=self.folder / name,
                        got=found,
                        expected=sent.sha256,
                    )
                write_atomic(into / name, content)


def pack(paths: Iterable[Path], put: Callable[[bytes], Any]) -> Parcel:
    """A parcel of files of one folder; PillsnapError where one cannot be read.

    Args:
        put: keeps a file's bytes for all nodes and gives a handle.
    """
    files, folder = {}, Path()
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise PillsnapError("cannot read the file", where=path, got=error.strerror) from error
        folder = path.parent
        files[path.name] = Sent(hashlib.sha256(content).hexdigest(), put(content))
    return Parcel(folder, files)


def _has(path: Path, sent: Sent) -> bool:
    try:
        return path.is_file() and sha256_file(path) == sent.sha256
    except (OSError, PillsnapError):
        return False
