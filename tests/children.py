"""Code that runs in the processes that pillsnap starts, before anything else does."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path


def in_children(folder: Path, source: str) -> dict[str, str]:
    """An environment in which every process of isolated.py runs these lines of Python first."""
    folder.mkdir()
    body = textwrap.indent(source, "    ")
    (folder / "sitecustomize.py").write_text(
        f'import sys\nif "pillsnap.core.isolated" in sys.orig_argv:\n{body}'
    )
    return {**os.environ, "PYTHONPATH": str(folder)}
