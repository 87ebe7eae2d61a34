"""Small texts that stand where a file should be: Git LFS pointers, and links that became texts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from pillsnap.core.regularfiles import open_regular

_LFS = b"version https://git-lfs.github.com/spec/v1"

# Linux's PATH_MAX; a pointer is shorter.
_MOST_BYTES = 4096


@dataclass(frozen=True)
class Placeholder:
    """What a file is in place of its content, to stand after "it is", and the command that helps.

    Attributes:
        target: the path that it holds; None for a pointer.
    """

    kind: str
    hint: str
    target: str | None = None


def find_placeholder(data: bytes, path: PurePath) -> Placeholder | None:
    """What stands in a file's place, by its bytes alone; None for content of its own.

    A link's text is told by a path to a file of the same kind, or one that begins as paths do.
    """
    if data.startswith(_LFS):
        hint = "fetch the files: git lfs pull (in CI, check out with lfs: true)"
        return Placeholder("a Git LFS pointer, not the file itself", hint)
    if not 0 < len(data) < _MOST_BYTES:
        return None
    text = data.decode(errors="replace").removesuffix("\n")
    alike = PurePosixPath(text).suffix.lower() == path.suffix.lower() != ""
    if not text.isprintable() or not (alike or text.startswith(("/", "./", "../"))):
        return None
    return Placeholder(
        f"a symbolic link that became a text, to {text[:200]}",
        "git config core.symlinks true, then delete it and git checkout it; or copy the file here",
        text,
    )


def read_placeholder(path: Path) -> Placeholder | None:
    """As find_placeholder, of a file on disk; None for one that cannot be read."""
    with suppress(OSError, ValueError), open_regular(path) as file:
        return find_placeholder(file.read(_MOST_BYTES), path)
    return None
