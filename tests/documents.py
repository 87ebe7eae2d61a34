"""What the documents show, to be run as it is written there."""

from __future__ import annotations

import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def block(document: str, start: str) -> str:
    """The indented lines of a document, such as docs/service.md, from the one that starts so, up to
    the next text."""
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith(f"    {start}"))
    found = []
    for line in lines[first:]:
        if line and not line.startswith("    "):
            break
        found.append(line)
    return textwrap.dedent("\n".join(found)).strip()
