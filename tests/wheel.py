"""pillsnap as pip installs it, outside this clone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.documents import ROOT

_OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")


def install_wheel(
    source: Path, *, before: tuple[str, ...] = (), into: tuple[str, ...] = ()
) -> None:
    """Have pip build and install a copy of the project, made in `source`: building leaves files
    behind.

    Args:
        before, into: options of pip, and of its install, that say where to.
    """
    shutil.copytree(ROOT / "pillsnap", source / "pillsnap")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", *before, "install", "-q", *_OFFLINE, *into)
    subprocess.run([*pip, str(source)], check=True, timeout=120)
