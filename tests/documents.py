"""What the documents show, to be run as it is written there."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

DOCUMENTS = tuple(
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
)

_PROGRAMS = "pip|pillsnap|pytest|python|make|git|uv|curl|bash|ray|for"
_SHELL = re.compile(rf"(?:{_PROGRAMS}) \S")
_FENCED = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")
# Not a folder such as pipeline/, an option of a table, or a key of the report.
_COMMAND = re.compile(r"(?:pytest|(?:pillsnap|pytest|pip install|python|make|bash) \S.*)")


def block(document: str, start: str) -> str:
    """The indented lines of a document, such as docs/service.md, from the one that starts so, up to
    the next text."""
    found = (each for each in blocks(document) if f"\n{start}" in f"\n{each}")
    whole = next(found)
    return whole[f"\n{whole}".index(f"\n{start}") :].strip()


def blocks(document: str) -> list[str]:
    """Every run of indented lines of a document, less their indentation."""
    text = (ROOT / document).read_text(encoding="utf-8")
    runs = re.findall(r"(?m)(?:^    .*\n(?:[ \t]*\n(?=    ))*)+", f"{text}\n")
    return [textwrap.dedent(found).strip() for found in runs]


def shell_blocks(document: str) -> list[str]:
    """Those that begin with a command."""
    return [found for found in blocks(document) if _SHELL.match(found)]


def commands(document: str) -> list[str]:
    """Commands that stand within the text, or in its tables."""
    text = (ROOT / document).read_text(encoding="utf-8")
    text = _FENCED.sub("", text)
    lines = (line for line in text.splitlines() if not line.startswith("    "))
    found = re.findall(r"`([^`]+)`", " ".join(lines))
    return [each for each in dict.fromkeys(found) if _COMMAND.fullmatch(each)]


def fenced(document: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    found = _FENCED.findall((ROOT / document).read_text(encoding="utf-8"))
    return [text for of, text in found if of == language]
