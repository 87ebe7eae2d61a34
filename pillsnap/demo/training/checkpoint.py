"""Writes a checkpoint whose bytes depend on its content alone."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any


def write_checkpoint(content: dict[str, Any], target: Path) -> None:
    """Saves content with torch at target, whole or not at all."""
    import torch

    # Given a path, torch.save writes the file's own name into the archive.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_bytes(buffer.getvalue())
    partial.replace(target)
