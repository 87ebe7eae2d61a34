"""Version tags, hashes, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pillsnap.errors import ConfigError, PillsnapError

TIMESTAMP_FORMAT = "%Y%m%d-%H%M%S"

VERSION_TAG = r"\d{8}-\d{6}-(?:[0-9a-f]{7}|nogit)"
"""Pattern of what prepare_version_tag makes."""

_HINTS = {
    errno.ENOSPC: "free some space on that disk, or write elsewhere with export.out_dir",
    errno.EDQUOT: "free some of your quota, or write elsewhere with export.out_dir",
    errno.EACCES: "make the folder writable, or write elsewhere with export.out_dir",
    errno.EPERM: "make the folder writable, or write elsewhere with export.out_dir",
    errno.EROFS: "the disk is mounted read-only: write elsewhere with export.out_dir",
    errno.EEXIST: "a file stands where a folder is needed: move it, or change export.out_dir",
    errno.ENOTDIR: "a file stands where a folder is needed: move it, or change export.out_dir",
    errno.EISDIR: "a folder stands where a file is needed: move it away",
}


def utc_now() -> datetime:
    """The current time in UTC, whole seconds; SOURCE_DATE_EPOCH (seconds) fixes it.

    Raises:
        ConfigError: SOURCE_DATE_EPOCH is set to something that is not a time.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            "SOURCE_DATE_EPOCH is not a time",
            where="environment variable SOURCE_DATE_EPOCH",
            got=text,
            expected="whole seconds since 1970-01-01 UTC",
        ) from error


def utc_timestamp() -> str:
    """UTC as %Y%m%d-%H%M%S."""
    return utc_now().strftime(TIMESTAMP_FORMAT)


def get_git_sha(cwd: Path | None = None) -> str:
    """First 7 hex digits of HEAD in `cwd` (default: the current folder), else "nogit".

    "nogit" stands for no git, no repository, no commit yet, or a repository git refuses to read.
    """
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", "HEAD"],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return "nogit"
    sha = done.stdout.strip()
    return sha[:7] if done.returncode == 0 and re.fullmatch(r"[0-9a-f]{40,64}", sha) else "nogit"


def prepare_version_tag() -> str:
    """Name of an export: <UTC>-<sha7|nogit>, as in 20250131-235959-1a2b3c4."""
    return f"{utc_timestamp()}-{get_git_sha()}"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        PillsnapError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PillsnapError("cannot read the file", where=path, got=_reason(error)) from error
    except ValueError as error:  # a name with a NUL
        raise PillsnapError("cannot read the file", where=path, got=error) from error


def canonical_json(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, non-finite numbers refused."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256_json(value: object) -> str:
    """SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file that readers see whole or not at all; missing folders are made.

    Raises:
        PillsnapError: it cannot be written; an older file of that name is then untouched.
    """
    with replace_atomic(path) as temp:
        temp.write_bytes(data)


@contextmanager
def replace_atomic(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder that becomes `path` when the block ends well.

    The temporary file is hidden and is removed when the block or the renaming fails.

    Args:
        sync: wait until the disk has it; without, a power cut may leave a file of no content.

    Raises:
        PillsnapError: the folder cannot be made, or the file cannot be written or renamed.
    """
    temp = _temp_beside(path)
    try:
        make_folder(path.parent)
        yield temp
        if sync:
            _sync(temp)
        temp.replace(path)
    except OSError as error:
        # An error that names another file was about something else than this writing.
        if error.filename is not None and os.fspath(error.filename) != str(temp):
            raise
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temp.unlink()
    if sync:
        with suppress(OSError):  # some file systems cannot sync a folder
            _sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, if they are missing.

    Raises:
        PillsnapError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def point_latest(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, replacing what it was in one step.

    Raises:
        PillsnapError: the link cannot be made, or a folder has its name.
    """
    temp = _temp_beside(link)
    # Resolved, since ".." through a symbolic link leads elsewhere.
    goal = os.path.relpath(target.parent.resolve() / target.name, link.parent.resolve())
    try:
        temp.symlink_to(goal)
        temp.replace(link)
    except OSError as error:
        raise _unwritable(link, error) from error
    finally:
        with suppress(OSError):
            temp.unlink()


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes, waiting for it; the file stays, empty.

    The lock goes with the process that holds it, so a killed run leaves none behind.

    Raises:
        PillsnapError: the lock file cannot be made or locked.
    """
    make_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise _unwritable(path, error) from error
        yield
    finally:
        os.close(descriptor)


def _temp_beside(path: Path) -> Path:
    return path.parent / f".pillsnap-{secrets.token_hex(8)}.tmp"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _unwritable(path: Path, error: OSError) -> PillsnapError:
    return PillsnapError(
        "cannot write",
        where=path,
        got=_reason(error),
        hint=_HINTS.get(error.errno or 0, "check the path and the disk, or change export.out_dir"),
    )
