"""Files that lie elsewhere: paths of what fsspec opens, with a copy on this disk of each that is
read.

Whoever opens a file by its path opens one of these too: os.fspath() of it is the path of the copy.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import Any
from urllib.parse import quote, unquote

from pillsnap.core.files import DISK_FULL
from pillsnap.core.filesystems import (
    is_folder,
    open_file_system,
    put_in_words,
    says_absent,
    version_of,
)
from pillsnap.core.localcopies import Origin, keep_copy
from pillsnap.core.urls import masked, split_url


class RemotePath(PosixPath):
    """A path of fsspec's, such as s3://bucket/folder/file; made by `at`.

    It is shown without what may be secret: a password, the query of http. Names below it are those
    that files would have on a disk. What cannot be answered (host, rights, package) is a
    RemoteError; a file that is not there is to it what it is to any path.
    """

    url: str
    origin: Origin
    _info: Mapping[str, Any] | None = None  # what is known of it; {}: it is not there
    _copy: Path | None = None

    @classmethod
    def at(cls, url: str, origin: Origin) -> RemotePath:
        scheme, path, query = split_url(url)
        path = posixpath.normpath(path)
        made = cls(f"{scheme}:/{path}")
        made.url, made.origin = f"{scheme}://{path}{query}", origin
        return made

    @property
    def _is_quoted(self) -> bool:
        return self.url.startswith(("http://", "https://"))

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.url, self.origin)

    def __str__(self) -> str:
        return masked(self.url)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __truediv__(self, name: str | os.PathLike[str]) -> RemotePath:
        name = os.fspath(name)
        scheme, path, _ = split_url(self.url)
        below = quote(name) if self._is_quoted else name
        return self.at(f"{scheme}://{path}/{below}", self.origin)

    def joinpath(self, *names: str | os.PathLike[str]) -> RemotePath:
        return self / os.path.join(*names) if names else self  # noqa: PTH118

    @property
    def name(self) -> str:
        return self.decode(super().name)

    @property
    def parent(self) -> RemotePath:
        return self / ".."

    def absolute(self) -> RemotePath:
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        return self

    def is_relative_to(self, *_: Any) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        info = self._known()
        if not is_folder(info) and info.get("size") is None:
            return Path(os.fspath(self)).stat()
        mode = stat.S_IFDIR if is_folder(info) else stat.S_IFREG
        return os.stat_result((mode, 0, 0, 0, 0, 0, info.get("size") or 0, 0, 0, 0))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind() is not None

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind() == "folder"

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind() == "file"

    def iterdir(self) -> Generator[RemotePath, None, None]:
        with self._asked() as (files, name):
            entries = {each["name"]: each for each in files.ls(name, detail=True)}
        for below, info in self._below(name, entries):
            if "/" not in below:
                path = self / below
                path._info = info
                yield path

    def names(self) -> Iterator[str]:
        """Paths below this folder of all files in it and in its folders, in any order."""
        with self._asked() as (files, name):
            entries = files.find(name, detail=True)
        return (below for below, info in self._below(name, entries) if not is_folder(info))

    def read_range(self, start: int, size: int) -> bytes:
        """Some bytes of the file; no copy is made."""
        with self._asked() as (files, name):
            data: bytes = files.cat_file(name, start=start, end=start + size)
        # Some web servers hand out all that they have.
        return data if len(data) <= size else data[start : start + size]

    def decode(self, part: str) -> str:
        """A part of the URL as a disk would have it: in those of http stand %20 and the like."""
        return unquote(part) if self._is_quoted else part

    def __fspath__(self) -> str:
        """Path of a whole copy of the file as it is now, fetched where there is none."""
        if self._copy is None or not self._copy.exists():
            return str(self._fetch(self._known()))
        return str(self._copy)

    def fetched(self) -> RemotePath:
        """The same path as it is now: it is not asked for again, and if it is there, so is a copy
        of it."""
        path = self.at(self.url, self.origin)
        try:
            path._info = info = self._known()
            if not is_folder(info):
                path._copy = self._fetch(info)
                path._info = {**info, "size": path._copy.stat().st_size}
        except FileNotFoundError:
            path._info = {}
        return path

    def _fetch(self, info: Mapping[str, Any]) -> Path:
        if is_folder(info):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))

        def download(target: Path) -> None:
            with self._asked() as (files, name):
                files.get_file(name, str(target))

        return keep_copy(self.url, info.get("size"), version_of(info), self.origin, download)

    def _known(self) -> Mapping[str, Any]:
        """What the file system says of it; FileNotFoundError where it is not there."""
        if self._info == {}:
            raise self._absent()
        if self._info is not None:
            return self._info
        with self._asked() as (files, name):
            info: Mapping[str, Any] = files.info(name)
        return info

    def _kind(self) -> str | None:
        try:
            return "folder" if is_folder(self._known()) else "file"
        except FileNotFoundError:
            return None

    def _below(
        self, name: str, entries: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Entries by their paths below this folder."""
        root = name.rstrip("/") + "/"
        for full, info in entries.items():
            below = full.removeprefix(root).rstrip("/")
            if full.startswith(root) and below:
                yield self.decode(below), info

    @contextmanager
    def _asked(self) -> Iterator[tuple[Any, str]]:
        """The file system, and the name of the file in it; what goes wrong is put into words."""
        try:
            files = open_file_system(self.url)
            yield files, files._strip_protocol(self.url)
        except Exception as error:  # each protocol's package has its own
            if says_absent(error):
                raise self._absent() from None
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise  # of the disk that is written to
            raise put_in_words(error, self.url, self.origin.place) from error

    def _absent(self) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))


def _arrive(url: str, origin: Origin) -> RemotePath:
    return RemotePath.at(url, origin.on_this_machine())


def split_root(path: Path) -> tuple[Path, str]:
    """The root of an absolute path, which is / or a remote path of a bucket or host, and the path
    below it, with its slash."""
    if not isinstance(path, RemotePath):
        return Path(path.anchor), str(path)
    scheme, rest, _ = split_url(path.url)
    root, _, below = rest.partition("/")
    return path.at(f"{scheme}://{root}/", path.origin), f"/{path.decode(below)}"
