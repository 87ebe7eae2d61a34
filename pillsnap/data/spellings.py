"""Names that look the same: Unicode has é and 약 composed (NFC) or in parts (NFD, as on a Mac), and
paths have slashes or, from Windows, backslashes."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pillsnap.core.filesystems import RemoteError
from pillsnap.core.remote import RemotePath
from pillsnap.core.textfiles import is_file


def compose(text: str) -> str:
    """A text in the composed form, NFC."""
    return unicodedata.normalize("NFC", text)


class Spellings:
    """How a disk spells the names of files that labels and manifests name; folders that must be
    looked through are listed once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, str]] = {}

    def find(self, folder: Path, name: str) -> str:
        """A path below `folder`, as posix, spelled as on the disk; as it is where none is there.

        Backslashes, which Windows writes between folders, are taken so where that leads to a file.
        """
        if "\\" in name and not self._is_file(folder, name):
            found = self.find(folder, PurePosixPath(name.replace("\\", "/")).as_posix())
            return found if self._is_file(folder, found) else name
        if name.isascii() or self._is_file(folder, name):
            return name
        parts: list[str] = []
        for part in PurePosixPath(name).parts:
            here = folder.joinpath(*parts)
            parts.append(self._names(here).get(compose(part), part))
        return PurePosixPath(*parts).as_posix()

    def _is_file(self, folder: Path, name: str) -> bool:
        path = folder / name
        if isinstance(path, RemotePath):  # which would be asked for one by one
            return self._names(path.parent).get(path.name) == path.name
        return is_file(path)

    def _names(self, folder: Path) -> dict[str, str]:
        if folder not in self._listed:
            self._listed[folder] = {}
            # Not every bucket or web server lists what it hands out.
            with suppress(OSError, RemoteError):
                names = [path.name for path in folder.iterdir()]
                self._listed[folder] = {compose(name): name for name in names}
                self._listed[folder] |= {name: name for name in names}
        return self._listed[folder]
