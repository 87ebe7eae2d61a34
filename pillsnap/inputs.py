"""Files that a path or glob names: {a,b} for alternatives, ** for folders of any depth."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from pillsnap.errors import DataError

_INNERMOST = re.compile(r"\{([^{}]*,[^{}]*)\}")

# More alternatives than anybody writes by hand.
_MOST_PATTERNS = 10_000


def find_inputs(pattern: str) -> list[Path]:
    """Files that match, each once, sorted; a path that exists is taken as it stands.

    Raises:
        DataError: there are none, or the braces multiply beyond all measure.
    """
    if "\0" in pattern:
        raise DataError("an input's name has a NUL", where="--inputs", got=repr(pattern))
    literal = Path(pattern)
    if literal.is_file():
        return [literal]
    names: set[str] = set()
    for count, each in enumerate(expand_braces(pattern)):
        if count == _MOST_PATTERNS:
            raise DataError("too many alternatives in braces", where="--inputs", got=pattern)
        # Path.glob takes no absolute patterns.
        names.update(glob.glob(each, recursive=True))  # noqa: PTH207
    files = [path for path in sorted(map(Path, names)) if not path.is_dir()]
    if not files:
        raise DataError(
            "no input",
            where="--inputs",
            got=pattern,
            expected="an image, or a pattern such as 'photos/**/*.{jpg,png}'",
            hint="quote the glob, and check the folder",
        )
    return files


def expand_braces(pattern: str) -> Iterator[str]:
    """The patterns that a pattern with {a,b} stands for; braces without a comma stay."""
    found = _INNERMOST.search(pattern)
    if found is None:
        yield pattern
        return
    for choice in found[1].split(","):
        yield from expand_braces(pattern[: found.start()] + choice + pattern[found.end() :])
