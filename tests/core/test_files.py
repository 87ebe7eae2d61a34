"""Files that are whole or not there, links and locks; what a killed writer leaves is removed."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pillsnap.core import files, folders
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import (
    file_lock,
    point_latest,
    replace_atomic,
    unwritable,
    write_atomic,
)
from pillsnap.core.folders import appearing_folder, remove_abandoned_folders
from pillsnap.gate.journal import RunLock, begin


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_atomic_replaces_whole_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "report.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["report.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o664 & ~umask


def test_nothing_is_writable_for_all_whatever_the_umask(tmp_path: Path) -> None:
    """Reports approve models, outcomes are taken over by --resume."""
    run_dir = tmp_path / "exp" / "runs" / "tag"
    umask = os.umask(0)
    try:
        write_atomic(tmp_path / "exp" / "export" / "reports" / "report.json", b"{}")
        with file_lock(tmp_path / "locks" / "lock"):
            pass
        with appearing_folder(tmp_path / "demo") as folder:
            write_atomic(folder / "map.json", b"{}")
        lock = RunLock(run_dir)
        assert lock.take()
        lock.close()
        begin(run_dir, "key")
    finally:
        os.umask(umask)
    made = list(tmp_path.rglob("*"))
    assert {"report.json", "reports", "lock", "demo", "map.json", "run.json", "tag", ".lock"} <= {
        path.name for path in made
    }
    assert [path for path in made if path.stat().st_mode & stat.S_IWOTH] == []


def test_a_folder_that_a_killed_process_was_making_goes(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    for name in (".demo.left", ".other.left", ".demo.d/deep"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "half.png").write_bytes(b"x")
    (tmp_path / ".demo.file").touch()
    with appearing_folder(root) as folder:
        remove_abandoned_folders(root)  # as another process does
        assert names(tmp_path) == sorted([".demo.file", folder.name, ".other.left"])
        (folder / "whole").touch()
    assert names(tmp_path) == [".demo.file", ".other.left", "demo"]
    assert names(root) == ["whole"]


def test_a_folder_taken_for_abandoned_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, tries = folders.make_folder, iter([True, False])

    def make_and_lose(folder: Path) -> None:
        make(folder)
        if next(tries):
            remove_abandoned_folders(tmp_path / "demo")

    monkeypatch.setattr(folders, "make_folder", make_and_lose)
    with appearing_folder(tmp_path / "demo") as folder:
        assert folder.is_dir()
    assert names(tmp_path) == ["demo"]


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


@pytest.mark.parametrize("number", [*files._HINTS, errno.EIO])
def test_no_hint_names_a_setting_since_any_file_is_written_so(tmp_path: Path, number: int) -> None:
    error = unwritable(tmp_path / "a", OSError(number, os.strerror(number)))
    assert "try:      " in str(error)
    assert not re.search(r"out_dir|exp_dir|export\.|paths\.|config", str(error))


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


# ------------------------------------------------------------------------- writers that are killed

fork = multiprocessing.get_context("fork")


def in_new_process(work: Callable[..., None], *args: object) -> int | None:
    """Exit code of a process that does this, without what this one remembers of folders."""

    def afresh() -> None:
        files._remove_abandoned.cache_clear()
        work(*args)

    process = fork.Process(target=afresh)
    process.start()
    process.join(60)
    return process.exitcode


def die_writing(path: Path) -> None:
    with replace_atomic(path) as temp:
        temp.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_writer_leaves_goes_with_the_next_writing(tmp_path: Path) -> None:
    for _ in range(2):
        assert in_new_process(die_writing, tmp_path / "a") == -signal.SIGKILL
    assert [name.endswith(".tmp") for name in names(tmp_path)] == [True]
    assert in_new_process(write_atomic, tmp_path / "other", b"whole") == 0
    assert names(tmp_path) == ["other"]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    with replace_atomic(tmp_path / "a") as temp:
        temp.write_bytes(b"first ")
        assert in_new_process(write_atomic, tmp_path / "b", b"") == 0
        with temp.open("ab") as file:
            file.write(b"second")
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == b"first second"


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"model")
    (tmp_path / ".pillsnap-link.tmp").symlink_to("model")
    (tmp_path / "pillsnap-notes.tmp").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".pillsnap-0.tmp").touch()
    before = sorted(tmp_path.rglob("*"))
    assert in_new_process(write_atomic, tmp_path / "model", b"new") == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_taken_for_abandoned_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    calls = 0

    def late(descriptor: int, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            assert in_new_process(write_atomic, tmp_path / "b", b"") == 0
            assert names(tmp_path) == ["b"]
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write_atomic(tmp_path / "a", b"whole")
    assert calls == 2
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert names(tmp_path) == ["a", "b"]


def write_often(folder: Path, name: str) -> None:
    for number in range(100):
        files._remove_abandoned.cache_clear()
        write_atomic(folder / name, str(number).encode())


def test_many_writers_that_look_for_abandoned_files_do_not_hurt_each_other(tmp_path: Path) -> None:
    writers = [fork.Process(target=write_often, args=(tmp_path, name)) for name in "aabc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        "abc", "99"
    )


def test_without_locks_files_are_written_and_none_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / ".pillsnap-0.tmp").touch()
    write_atomic(tmp_path / "a", b"whole")
    assert names(tmp_path) == [".pillsnap-0.tmp", "a"]


# ------------------------------------------------------------------------------------------ locks


def _append_slowly(folder: Path, name: str) -> None:
    with file_lock(folder / ".lock"):
        for _ in range(5):
            with (folder / "log").open("a") as file:
                file.write(name)
            time.sleep(0.01)


def test_lock_keeps_processes_apart(tmp_path: Path) -> None:
    workers = [fork.Process(target=_append_slowly, args=(tmp_path, name)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert re.fullmatch(r"(?:(.)\1{4}){3}", (tmp_path / "log").read_text())


def test_lock_is_released_by_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError), file_lock(tmp_path / ".lock"):
            raise RuntimeError
