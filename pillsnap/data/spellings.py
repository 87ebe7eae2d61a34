"""Names that look the same: Unicode has é and 약 composed (NFC) or in parts (NFD, as on a Mac), and
paths have slashes or, from Windows, backslashes."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath

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
        if "\\" in name and not is_file(folder / name):
            found = self.find(folder, PurePosixPath(name.replace("\\", "/")).as_posix())
            return found if is_file(folder / found) else name
        if name.isascii() or is_file(folder / name):
            return name
        parts: list[str] = []
        for part in PurePosixPath(name).parts:
            here = folder.joinpath(*parts)
            parts.append(self._names(here).get(compose(part), part))
        return PurePosixPath(*parts).as_posix()

    def _names(self, folder: Path) -> dict[str, str]:
        if folder not in self._listed:
            self._listed[folder] = {}
            with suppress(OSError):
                self._listed[folder] = {compose(path.name): path.name for path in folder.iterdir()}
        return self._listed[folder]
