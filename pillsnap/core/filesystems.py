"""What fsspec's file systems say, in one language: what a file is, its version, what went wrong."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pillsnap.core.errors import DataError, first_line
from pillsnap.core.urls import masked, split_url

# How file systems name a file's version, the surest first.
_VERSIONS = (
    *("etag", "contentmd5", "md5hash", "crc32c", "digest"),
    *("mtime", "lastmodified", "modificationtime", "modified", "modify", "updated", "created"),
)

_ABSENT = (404, 410)

# That a web server may keep silent.
_SILENCE_S = 30


class RemoteError(DataError):
    """A file elsewhere cannot be reached, whether it is there or not."""


def open_file_system(url: str) -> Any:
    """fsspec's file system for a URL. Its options and credentials are fsspec's own: environment,
    files of the protocol's package, ~/.config/fsspec."""
    import fsspec

    scheme, path, _ = split_url(url)
    # Those that are not asynchronous need not bear several threads.
    shared = fsspec.get_filesystem_class(scheme).async_impl
    thread = None if shared else threading.get_ident()
    return _opened(f"{scheme}://{path.partition('/')[0]}/", thread, os.getpid())


@lru_cache(maxsize=256)
def _opened(root: str, thread: int | None, process: int) -> Any:
    import fsspec

    options: dict[str, Any] = {}
    if root.startswith("http"):
        import aiohttp

        # In place of five minutes for all of a file, however large.
        timeout = aiohttp.ClientTimeout(sock_connect=_SILENCE_S, sock_read=_SILENCE_S)
        options["client_kwargs"] = {"timeout": timeout}
    return fsspec.core.url_to_fs(root, **options)[0]


def is_folder(info: Mapping[str, Any]) -> bool:
    """Whether it is of a folder; a web server's is a page of links."""
    return info.get("type") == "directory" or info.get("mimetype") == "text/html"


def version_of(info: Mapping[str, Any]) -> str | None:
    """What changes with a file's content; None where the file system has nothing of the kind."""
    plain = {re.sub("[^a-z0-9]", "", name.lower()): value for name, value in info.items()}
    return next((f"{name} {plain[name]}" for name in _VERSIONS if plain.get(name)), None)


def says_absent(error: Exception) -> bool:
    """Whether an error says that a file is not there. Of http, fsspec says so of all it meets."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
    status = getattr(cause, "status", None)
    if status is not None:
        return status in _ABSENT
    http = type(cause).__module__.startswith("aiohttp") or isinstance(cause, TimeoutError)
    return isinstance(error, FileNotFoundError) and not http


def put_in_words(error: Exception, url: str, place: str) -> RemoteError:
    """What to tell whoever named a URL in `place` (file, line, key)."""
    scheme = split_url(url)[0]
    if isinstance(error, ImportError):
        lacking = "pip install fsspec" if error.name == "fsspec" else first_line(error)
        return RemoteError(
            f"what opens {scheme}:// is not installed",
            where=place,
            got=masked(url),
            hint=lacking,
        )
    cause = error.__cause__ or error
    said = re.sub(r"\?[^\s'\"]+", "?…", first_line(cause).replace(url, masked(url)))
    return RemoteError(
        "this cannot be read from where it lies",
        where=masked(url),
        got=f"{type(cause).__name__}: {said}",
        hint=f"check the address, the network, and the credentials that fsspec finds for {scheme}; "
        f"it stands in {place}",
    )
