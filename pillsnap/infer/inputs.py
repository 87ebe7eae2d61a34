"""Files that a path or glob names: {a,b} for alternatives, ** for folders of any depth, suffixes
in upper and lower case alike."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from pillsnap.core.errors import DataError

_INNERMOST = re.compile(r"\{([^{}]*,[^{}]*)\}")

# More alternatives than anybody writes by hand.
_MOST_PATTERNS = 10_000


def find_inputs(pattern: str) -> list[Path]:
    """Files that match, each once, sorted; a path that exists is taken as it stands, and so are the
    folders that a pattern begins with.

    Raises:
        DataError: there are none, or the braces multiply beyond all measure.
    """
    if "\0" in pattern:
        raise DataError("an input's name has a NUL", where="--inputs", got=repr(pattern))
    literal = Path(pattern)
    if literal.is_file():
        return [literal]
    folder, rest = _split(pattern)
    found: set[Path] = set()
    for count, each in enumerate(expand_braces(rest)):
        if count == _MOST_PATTERNS:
            raise DataError("too many alternatives in braces", where="--inputs", got=pattern)
        # An alternative may be absolute, which Path.glob does not take.
        names = glob.glob(_any_case(each), root_dir=folder, recursive=True)  # noqa: PTH207
        found.update(folder / name for name in names)
    files = [path for path in sorted(found) if not path.is_dir()]
    if not files:
        raise DataError(
            "no input",
            where="--inputs",
            got=pattern,
            expected="an image, or a pattern such as 'photos/**/*.{jpg,png}'",
            hint=(
                f"{folder} is a folder: give {folder}/**/*.{{jpg,png}}"
                if not rest
                else f"quote the glob, and check what lies in {folder.absolute()}"
            ),
        )
    return files


def _split(pattern: str) -> tuple[Path, str]:
    """The folder that a pattern begins with, brackets and braces in its name included, and the
    rest."""
    folder, rest = Path("/" if pattern.startswith("/") else "."), pattern.lstrip("/")
    while rest:
        name, _, behind = rest.partition("/")
        if not (folder / name).is_dir():
            break
        folder, rest = folder / name, behind
    return folder, rest


def _any_case(pattern: str) -> str:
    """A pattern whose suffix matches in upper and lower case: cameras write IMG_1.JPG."""
    stem, dot, suffix = pattern.rpartition(".")
    if not dot or not suffix.isalnum():
        return pattern
    letters = (f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in suffix)
    return f"{stem}.{''.join(letters)}"


def expand_braces(pattern: str) -> Iterator[str]:
    """The patterns that a pattern with {a,b} stands for; braces without a comma stay."""
    found = _INNERMOST.search(pattern)
    if found is None:
        yield pattern
        return
    for choice in found[1].split(","):
        yield from expand_braces(pattern[: found.start()] + choice + pattern[found.end() :])
