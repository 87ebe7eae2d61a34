"""File systems without links, locks, syncing or replacing: what stands in for it, and is named.

The system calls are refused as such file systems refuse them.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pillsnap.core import locks
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import file_lock, point_latest, write_atomic
from pillsnap.gate.journal import RunLock, begin, find_unfinished, prune
from pillsnap.infer.journal import open_journal


def refusing(number: int, when: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
    def refuse(*arguments: Any, **_: Any) -> None:
        if when(*arguments):
            raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_links_latest_is_a_copy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    monkeypatch.setattr(os, "symlink", refusing(number))
    for content in ("one", "two"):
        (tmp_path / content).write_text(content)
        point_latest(tmp_path / "latest", tmp_path / content)
        assert not (tmp_path / "latest").is_symlink()
        assert (tmp_path / "latest").read_text() == content
    assert f"latest is a copy: no link can be made there ({os.strerror(number)})" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "one", "two"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(PillsnapError, match="cannot write"):
        point_latest(tmp_path / "folder", tmp_path / "one")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EEXIST, errno.ENOSYS])
def test_where_no_file_takes_the_place_of_another_it_is_written_in_place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    rename = os.replace
    (tmp_path / "a").write_text("a longer text than the next")

    def first_time_only(source: Path, target: Path) -> None:
        refusing(number, lambda: Path(target).exists())()
        rename(source, target)

    monkeypatch.setattr(os, "replace", first_time_only)
    write_atomic(tmp_path / "b", b"new")
    assert caplog.text == ""
    write_atomic(tmp_path / "a", b"new")
    assert "a was written in place" in caplog.text
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}
    # Not through a link, and what cannot be written is what it was.
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with pytest.raises(PillsnapError, match="cannot write"):
            write_atomic(tmp_path / name, b"through")
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_what_cannot_be_synced_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    write_atomic(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(PillsnapError, match="Input/output error"):
        write_atomic(tmp_path / "a", b"lost")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_file_without_a_link_count_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.fstat

    def none(descriptor: int) -> os.stat_result:
        found = tuple(stat(descriptor))
        return os.stat_result([0 if index == 3 else found[index] for index in range(10)])

    monkeypatch.setattr(os, "fstat", none)
    write_atomic(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


@pytest.fixture
def without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a file system that has no locks; that of temporary files has."""
    folder = tmp_path / "share"
    folder.mkdir()
    flock = fcntl.flock

    def local_alone(descriptor: int, operation: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(folder):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", local_alone)
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))
    return folder


def test_without_locks_this_machines_processes_are_kept_apart(
    without_locks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, other = (RunLock(without_locks / name) for name in ("a", "a", "b"))
    assert [lock.take() for lock in (first, second, other)] == [True, False, True]
    first.close()
    assert second.take()
    with file_lock(without_locks / "lock"), pytest.raises(TimeoutError):
        locks.lock_between(without_locks / "lock", 0o600, blocking=False)
    assert caplog.text.count("a/.lock: this file system has no locks (No locks available)") == 1
    for lock in (second, other):
        lock.close()


def test_without_locks_two_commands_do_not_write_the_same_results(without_locks: Path) -> None:
    with open_journal(without_locks / "r.jsonl", "key") as journal:
        assert list(journal.known([], 1)) == []
        with (
            pytest.raises(PillsnapError, match="another process writes"),
            open_journal(without_locks / "r.jsonl", "key"),
        ):
            pass


def test_without_locks_a_run_is_gone_on_with_and_none_is_removed(without_locks: Path) -> None:
    runs = without_locks / "runs"
    names = [f"2025013{day}-000000-nogit-aaaaaa" for day in range(3)]
    for name in names:
        (runs / name).mkdir(parents=True)
        begin(runs / name, "key")
    prune(runs, 1, without_locks)
    assert sorted(path.name for path in runs.iterdir()) == names
    found = find_unfinished(runs, "key")
    assert found is not None and found[0].name == names[-1]
    found[1].close()
