"""Version tags and hashes."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from pillsnap.core.checkout import get_git_sha
from pillsnap.core.errors import ConfigError, PillsnapError, first_line
from pillsnap.core.regularfiles import open_regular

TIMESTAMP_FORMAT = "%Y%m%d-%H%M%S"

VERSION_TAG = r"\d{8}-\d{6}-(?:[0-9a-f]{7}|nogit)"
"""Pattern of what prepare_version_tag makes."""


def utc_now() -> datetime:
    """The current time in UTC; SOURCE_DATE_EPOCH (seconds) fixes it.

    Raises:
        ConfigError: SOURCE_DATE_EPOCH is set to something that is not a time.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return datetime.now(UTC)
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            "SOURCE_DATE_EPOCH is not a time",
            where="environment variable SOURCE_DATE_EPOCH",
            got=text,
            expected="whole seconds since 1970-01-01 UTC",
        ) from error


def prepare_version_tag(cwd: Path | None = None) -> str:
    """Name of an export: <UTC>-<sha7|nogit>, as in 20250131-235959-1a2b3c4; see get_git_sha."""
    return f"{utc_now():{TIMESTAMP_FORMAT}}-{get_git_sha(cwd)}"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; PillsnapError where it cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # the latter of a name with a NUL
        reason = getattr(error, "strerror", None) or first_line(error)
        raise PillsnapError("cannot read the file", where=path, got=reason) from error


def code_sha256() -> str:
    """SHA-256 of pillsnap's own code."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return sha256_json([sha256_file(file) for file in files])


def canonical_json(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, non-finite numbers refused."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    # Names of files need not be Unicode; the replacement is JSON's own escape.
    return text.encode(errors="backslashreplace").decode()


def sha256_json(value: object) -> str:
    """SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
