"""URLs as they stand in configurations: s3://bucket/file, https://host/file."""

from __future__ import annotations

import re

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)


def is_url(text: str) -> bool:
    """Whether a text is one: two letters at least, then ://."""
    return _URL.match(text) is not None


def split_url(url: str) -> tuple[str, str, str]:
    """Scheme, all that follows it, and of http the query with its question mark, "" without."""
    match = _URL.fullmatch(url)
    assert match is not None, url
    scheme, rest = match[1].lower(), match[2]
    if scheme not in ("http", "https"):  # a key of a bucket may hold a question mark
        return scheme, rest, ""
    path, mark, query = rest.partition("?")
    return scheme, path, mark + query


def masked(url: str) -> str:
    """A URL without what may be secret, fit for reports: a password, the query of http."""
    scheme, path, query = split_url(url)
    host, slash, rest = path.partition("/")
    # Before a host stands who asks, before an account of abfs a container.
    host = re.sub(r"^[^@]*(?=@)" if scheme.startswith("http") else r"(?<=:)[^@]*(?=@)", "…", host)
    return f"{scheme}://{host}{slash}{rest}{'?…' if query else ''}"
