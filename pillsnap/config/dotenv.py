""".env files of KEY=VALUE lines, which other programs may share."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from pillsnap.core.errors import ConfigError
from pillsnap.core.textfiles import read_text

_NAME = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)(?![\w.-])")
# What follows the name; a quoted value may go over several lines.
_QUOTED = re.compile(
    r"""[^\S\n]*=[^\S\n]*(?:'([^']*)'|"((?:[^"\\]|\\.)*)")[^\S\n]*(?:\#[^\n]*)?(?:\n|$)""",
    re.DOTALL,
)
_PLAIN = re.compile(r"""[^\S\n]*=((?![^\S\n]*['"])[^\n]*)(?:\n|$)""")
_EXPECTED = "KEY=VALUE, KEY='VALUE' or KEY=\"VALUE\""
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def read_env_file(path: Path, used: Collection[str]) -> dict[str, str]:
    """Read KEY=VALUE lines: comments, an optional `export`, single and double quotes.

    Values are taken as they stand, no variable expands in them; double quotes know \\n, \\r, \\t,
    \\", \\$ and \\\\, and a quoted value may go over several lines. A missing file is an empty one.
    The last of two equal keys counts. What other programs write there (a name alone, names with
    dots or dashes, other syntax) is passed over.

    Args:
        used: names whose lines must be right.

    Raises:
        ConfigError: unreadable file, or a broken line of a name that is used. What stands right of
            the name is not repeated in the message, because such files hold secrets.
    """
    if not path.exists():
        return {}
    text = read_text(path, ConfigError).replace("\r\n", "\n")
    found: dict[str, str] = {}
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        line = text[start:end]
        name = _NAME.match(line)
        if name is not None:
            place = start + name.end()
            value = _QUOTED.match(text, place) or _PLAIN.match(text, place)
            if value is not None:
                found[name[1]], end = _unescape(value), value.end()
            elif name[1] in used and line.strip() != name[0].strip():
                number = text.count("\n", 0, start) + 1
                raise _broken(f"{path}:{number}", name[1], line)
        start = end
    return found


def read_value(name: str, text: str) -> str:
    """A variable of the environment as .env would give it: `docker run --env-file` keeps the quotes
    of the same file, and secrets that are mounted often end with a newline.

    Raises:
        ConfigError: its quotes are broken; the value is not repeated.
    """
    text = text.strip()
    quoted = _QUOTED.fullmatch(f"={text}")
    if quoted is None and text.startswith(("'", '"')):
        raise _broken(f"environment variable {name}", name, f"{name}=")
    return text if quoted is None else _unescape(quoted)


def _unescape(value: re.Match[str]) -> str:
    if value.re is _PLAIN:
        return re.sub(r"\s+#.*", "", value[1]).strip()
    if value[1] is not None:
        return value[1]
    return re.sub(
        r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), value[2], flags=re.DOTALL
    )


def _broken(where: str, name: str, line: str) -> ConfigError:
    assigned = re.search(rf"{name}\s*=", line)
    return ConfigError(
        "this value's quotes are broken" if assigned else "this line is no assignment",
        where=where,
        got=f"{name}=…" if assigned else f"{name} without = behind it",
        expected=_EXPECTED,
    )
