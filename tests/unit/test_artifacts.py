"""Version tags, hashes, atomic files, links and locks."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import re
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pillsnap.artifacts import (
    canonical_json,
    file_lock,
    get_git_sha,
    point_latest,
    prepare_version_tag,
    replace_atomic,
    sha256_file,
    sha256_json,
    utc_timestamp,
    write_atomic,
)
from pillsnap.errors import ConfigError, PillsnapError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_timestamp_has_the_contracts_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert re.fullmatch(r"\d{8}-\d{6}", utc_timestamp())
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert utc_timestamp() == "19700102-000000"


@pytest.mark.parametrize("text", ["soon", "1.5", "9" * 30])
def test_broken_source_date_epoch_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH") as caught:
        utc_timestamp()
    assert text in str(caught.value)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_git_sha_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert get_git_sha(tmp_path) == "nogit"
    git(tmp_path, "init", "-q")
    assert get_git_sha(tmp_path) == "nogit", "no commit yet"
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert get_git_sha(tmp_path) == head[:7]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert prepare_version_tag() == f"19700101-000000-{head[:7]}"


def test_git_sha_without_git_or_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_git_sha(tmp_path / "gone") == "nogit"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert get_git_sha() == "nogit"


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"pill")
    assert sha256_file(path) == hashlib.sha256(b"pill").hexdigest()
    assert canonical_json({"b": (1, 2), "a": "é"}) == '{"a":"é","b":[1,2]}'
    assert sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        sha256_json(float("nan"))
    with pytest.raises(PillsnapError, match="No such file") as caught:
        sha256_file(tmp_path / "gone")
    assert str(tmp_path / "gone") in str(caught.value)


def test_write_atomic_replaces_whole_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "report.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["report.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_failure_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"old")
    with pytest.raises(RuntimeError, match="body"), replace_atomic(path) as temp:
        temp.write_bytes(b"half")
        assert temp.parent == tmp_path and temp.name.startswith(".")
        raise RuntimeError("body")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_is_whole_or_not_there_whether_or_not_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def counted(descriptor: int) -> None:
        synced.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    path = tmp_path / "new" / "a"
    for content in (b"one", b"two"):
        with replace_atomic(path, sync=sync) as temp:
            temp.write_bytes(content)
        assert path.read_bytes() == content
    # The file and its folder, each time.
    assert len(synced) == (4 if sync else 0)
    with pytest.raises(RuntimeError), replace_atomic(path, sync=sync) as temp:
        temp.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["a"]


def test_full_disk_is_named_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(PillsnapError) as caught, replace_atomic(path) as temp:
        temp.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    message = str(caught.value)
    assert str(path) in message and "No space left on device" in message and "free some" in message
    assert names(tmp_path) == []


def test_error_about_another_file_passes_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"), replace_atomic(tmp_path / "a") as temp:
        temp.write_bytes((tmp_path / "gone").read_bytes())


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    writes: list[Callable[[], None]] = [
        lambda: write_atomic(blocked / "a", b""),
        lambda: write_atomic(tmp_path, b""),
        lambda: point_latest(blocked / "a", tmp_path / "b"),
        lambda: file_lock(blocked / "lock").__enter__(),
    ]
    for write in writes:
        with pytest.raises(PillsnapError, match="cannot write") as caught:
            write()
        assert str(tmp_path) in str(caught.value) and "try:" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_write_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PillsnapError, match="Permission denied"):
        write_atomic(tmp_path / "a", b"")


def test_link_is_relative_and_replaceable(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    link = folder / "latest.onnx"
    for name in ("one", "two"):
        (folder / name).write_text(name)
        point_latest(link, folder / name)
        assert str(link.readlink()) == name
        assert link.read_text() == name
    moved = folder.rename(tmp_path / "moved")
    assert (moved / "latest.onnx").read_text() == "two"
    point_latest(tmp_path / "up.onnx", moved / "one")
    assert str((tmp_path / "up.onnx").readlink()) == "moved/one"
    assert names(moved) == ["latest.onnx", "one", "two"]


def test_link_over_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(PillsnapError, match="cannot write"):
        point_latest(tmp_path / "latest", tmp_path / "a")
    assert names(tmp_path) == ["latest"]


def _append_slowly(folder: Path, name: str) -> None:
    with file_lock(folder / ".lock"):
        for _ in range(5):
            with (folder / "log").open("a") as file:
                file.write(name)
            time.sleep(0.01)


def test_lock_keeps_processes_apart(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append_slowly, args=(tmp_path, name)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert re.fullmatch(r"(?:(.)\1{4}){3}", (tmp_path / "log").read_text())


def test_lock_is_released_by_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError), file_lock(tmp_path / ".lock"):
            raise RuntimeError
