"""Files that are one model: an .onnx, or OpenVINO's graph with the weights beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pillsnap.core.errors import PillsnapError, first_line
from pillsnap.core.regularfiles import open_regular

EXPORTED = ".onnx"
"""Suffix of what pillsnap exports, converts and verifies."""

IR = ".xml"
"""Suffix of OpenVINO's graphs, whose weights lie beside them in a .bin."""


def model_files(path: Path) -> tuple[Path, ...]:
    """All files of a model, the one that names it first."""
    return (path, path.with_suffix(".bin")) if path.suffix == IR else (path,)


def sha256_model(path: Path) -> str:
    """SHA-256 of a model, in hex: sha256_of the digests of all its files; PillsnapError where one
    cannot be read."""
    digests = []
    for each in model_files(path):
        try:
            with open_regular(each) as file:
                digests.append(hashlib.file_digest(file, "sha256").digest())
        except (OSError, ValueError) as error:  # the latter of a name with a NUL
            reason = getattr(error, "strerror", None) or first_line(error)
            raise PillsnapError("cannot read the model", where=each, got=reason) from error
    return sha256_of(digests)


def sha256_of(digests: Sequence[bytes]) -> str:
    """SHA-256 of a model, in hex, whose files have these: that of its only one, else that of them
    all one after another. Each has 32 bytes, so that no byte can go from one file to the next and
    leave it as it was."""
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()).hex()


def named_model(path: Path) -> Path:
    """The model that a path names: in a folder as best_openvino_model/ its only one, else the path
    itself."""
    try:
        found = [*path.glob(f"*{IR}"), *path.glob(f"*{EXPORTED}")] if path.is_dir() else []
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        found = []
    return found[0] if len(found) == 1 and found[0].suffix == IR else path
