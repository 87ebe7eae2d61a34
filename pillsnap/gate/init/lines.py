"""Lines of a config.yaml: values as YAML, and FILL with the choices where there is none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from pillsnap.config.fields import FILL
from pillsnap.core.errors import DataError
from pillsnap.core.printable import printable
from pillsnap.data.listing import IMAGE_SUFFIXES

MARK = f": {FILL}  # {FILL}: "
"""What stands between a key without a value and its choices."""


def line(key: str, value: Any, choices: str = "", about: str = "") -> str:
    """`key: value  # about`; where the value is None, `key: FILL  # FILL: choices`."""
    if value is None:
        return f"{key}{MARK}{choices}"
    return f"{key}: {to_yaml(value)}" + (f"  # {printable(about)}" if about else "")


def section(key: str, lines: Sequence[str]) -> list[str]:
    """A section's lines, indented; none of an empty section."""
    return [f"{key}:", *(f"  {each}" for each in lines)] if lines else []


def to_yaml(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(to_yaml, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    plain = str(value) if isinstance(value, Path) else value
    # In double quotes what does not print, line feeds among it, is escaped.
    style = None if str(plain).isprintable() else '"'
    text: str = yaml.safe_dump(plain, allow_unicode=True, width=float("inf"), default_style=style)
    return text.removesuffix("\n").removesuffix("\n...")


def require_images(found: Sequence[object], place: Path) -> None:
    """Refuse a place without one image by a DataError."""
    if not found:
        raise DataError(
            "there are no images",
            where=place,
            expected="files ending in " + ", ".join(IMAGE_SUFFIXES),
            hint="name the folder that they lie in",
        )


def path_from(folder: Path, path: Path) -> Path:
    """A path as a config in `folder` has it: absolute where it is given so."""
    return path if path.is_absolute() else Path(os.path.relpath(path, folder))
