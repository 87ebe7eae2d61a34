""".env files of KEY=VALUE lines."""

from __future__ import annotations

import re
from pathlib import Path

from pillsnap.errors import ConfigError
from pillsnap.textfiles import read_text

_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
_QUOTED = re.compile(r"""(?:'([^']*)'|"((?:[^"\\]|\\.)*)")\s*(?:#.*)?""")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def read_env_file(path: Path) -> dict[str, str]:
    """Read KEY=VALUE lines: comments, an optional `export`, single and double quotes.

    Values are taken as they stand, no variable expands in them; double quotes know \\n, \\r, \\t,
    \\", \\$ and \\\\. A missing file is an empty one. The last of two equal keys counts.

    Raises:
        ConfigError: unreadable file, or a line that is no assignment. What stands right of `=` is
            not repeated in the message, because such files hold secrets.
    """
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for number, raw in enumerate(read_text(path, ConfigError).split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        value = None if match is None else _unquote(match[2])
        if match is None or value is None:
            name, equals, _ = line.partition("=")
            raise ConfigError(
                "this line is no assignment" if match is None else "this value's quotes are broken",
                where=f"{path}:{number}",
                got=f"{name}=…" if equals else "a line without =",
                expected="KEY=VALUE, KEY='VALUE' or KEY=\"VALUE\"",
            )
        found[match[1]] = value
    return found


def _unquote(text: str) -> str | None:
    """The value in what stands right of `=`; None if its quotes do not match."""
    stripped = text.strip()
    if not stripped.startswith(("'", '"')):
        return re.sub(r"\s+#.*", "", text).strip()
    match = _QUOTED.fullmatch(stripped)
    if match is None:
        return None
    if match[1] is not None:
        return match[1]
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), match[2])
