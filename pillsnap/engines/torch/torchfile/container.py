"""The file around a pickle: torch's zip archive, and the one stream it wrote before version 1.6."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.engines.torch.torchfile.budget import MARGIN, Unreadable

if TYPE_CHECKING:
    import torch

# A directory of so many bytes names 100,000 tensors; Python takes tenfold to hold it.
_DIRECTORY = 8 * 2**20

# torch writes entries as they are; archives that were packed again shrink weights by little.
_INFLATED = 2


class Archive:
    """An open checkpoint in zip format."""

    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        self._archive, self._prefix = archive, prefix
        self.names = {name.removeprefix(prefix) for name in archive.namelist()}

    def pickle(self) -> bytes:
        """The pickle of the objects."""
        return self._archive.read(self._prefix + "data.pkl")

    def read_storage(self, key: str, size: int, width: int) -> torch.Tensor:
        """The first `size` bytes of a storage of values of `width` bytes, uint8 [size]; Unreadable
        where it is larger than what is in the file."""
        import torch

        info = self._archive.getinfo(f"{self._prefix}data/{key}")
        if size > info.file_size:
            raise Unreadable(
                "the checkpoint's values are not all there",
                f"{info.file_size:,} of {size:,} bytes of storage {key[:40]}",
            )
        raw = torch.empty(size, dtype=torch.uint8)
        file: Any = self._archive.open(info)  # typeshed hides its readinto
        with file:
            taken = file.readinto(raw.numpy().data)
        if taken != size:
            raise EOFError(f"storage {key} is cut off")
        if width > 1 and self._swapped():
            flat = raw.numpy().reshape(-1, width)
            flat[:] = flat[:, ::-1]
        return raw

    def _swapped(self) -> bool:
        return "byteorder" in self.names and (
            self._archive.read(self._prefix + "byteorder").decode() != sys.byteorder
        )


class _Source(io.BufferedReader):
    """A file of which no piece larger than `most` is read, while that is set."""

    most: int | None = _DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        if self.most is not None and size is not None and size > self.most:
            raise Unreadable("the checkpoint's zip directory is too large", f"{size:,} bytes")
        return super().read(size)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a checkpoint in zip format, its entries checked, nothing of them read.

    Raises:
        Unreadable: encrypted or oddly packed entries, or more than the file can hold.
        zipfile.BadZipFile: damaged, or no zip archive.
    """
    with _Source(io.FileIO(path)) as source, zipfile.ZipFile(source) as archive:
        source.most = None
        total = 0
        for info in archive.infolist():
            total += info.file_size
            if info.flag_bits & 0x1:
                raise Unreadable(
                    "the checkpoint's zip archive is encrypted", hint="unpack it, and save it anew"
                )
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Unreadable(
                    "the checkpoint's zip archive is packed by a method that torch.save never uses",
                    f"method {info.compress_type}",
                    "save it anew with torch.save",
                )
        size = path.stat().st_size
        if total > _INFLATED * size + MARGIN:
            raise Unreadable(
                "the checkpoint's zip archive would grow beyond measure",
                f"{total / 2**20:,.1f} MiB out of a file of {size / 2**20:,.1f}",
                "save it anew with torch.save",
            )
        pickles = [name for name in archive.namelist() if name.split("/", 1)[-1] == "data.pkl"]
        yield Archive(archive, pickles[0].removesuffix("data.pkl") if pickles else "")


def require_container(path: Path) -> str | None:
    """What a zip file is when it is certainly no checkpoint; None when it may be one. It is
    Unreadable as for open_archive."""
    try:
        with open_archive(path) as archive:
            names = archive.names
    except zipfile.BadZipFile:
        return "a zip archive without its end: the file is truncated"
    if "constants.pkl" in names:
        return "a TorchScript archive"
    return None if "data.pkl" in names else "a zip archive of something else"


class Stream:
    """The storages of the old format: sizes are known while the pickle is read, values after."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._storages: dict[str, tuple[torch.Tensor, int]] = {}

    def read_storage(self, key: str, size: int, width: int) -> torch.Tensor:
        """Room for a storage, uint8 [size], filled by `fill`."""
        import torch

        if size > self._left:
            raise Unreadable("the checkpoint's values are not all there", f"{size:,} bytes")
        self._left -= size
        raw = torch.empty(size, dtype=torch.uint8)
        self._storages[key] = raw, width
        return raw

    def fill(self, keys: Any, data: Any, start: int) -> None:
        """Read values after the pickle: of each key their number, int64, then they themselves."""
        for key in keys:
            raw, width = self._storages.pop(str(key))
            size = int.from_bytes(data[start : start + 8], "little") * width
            start += 8
            if size != raw.numel() or start + size > len(data):
                raise EOFError("the values are cut off")
            raw.numpy().data[:] = memoryview(data)[start : start + size]
            start += size
        if self._storages:
            raise EOFError("values are missing")
