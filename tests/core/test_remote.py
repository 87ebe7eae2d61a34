"""Files that lie elsewhere: real file systems of fsspec, among them a web server."""

from __future__ import annotations

import copy
import http.server
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pillsnap.core.fetching import fetched
from pillsnap.core.filesystems import RemoteError
from pillsnap.core.hashes import sha256_file
from pillsnap.core.localcopies import Origin
from pillsnap.core.remote import RemotePath, split_root
from pillsnap.core.urls import is_url, masked

PLACE = "config.yaml:3: data.val.single"
PLENTY = 1 << 30

fork = multiprocessing.get_context("fork")


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(PLACE, tmp_path / "cache" / "remote", PLENTY)


def copies(origin: Origin) -> list[bytes]:
    return sorted(path.read_bytes() for path in origin.folder.glob("*/*.copy"))


def left_over(origin: Origin) -> list[Path]:
    return list(origin.folder.glob("*/.pillsnap-*"))


def test_a_remote_file_is_a_path(memory: Any, origin: Origin) -> None:
    memory.pipe({"/data/a b/x.png": b"xyz", "/data/약.jpg": b"12"})
    folder = RemotePath.at("memory://data/", origin)
    path = folder / "a b/x.png"
    assert str(path) == "memory://data/a b/x.png"
    assert (path.name, path.suffix, path.parent.parent) == ("x.png", ".png", folder)
    assert path.is_file() and not path.is_dir() and path.stat().st_size == 3
    assert folder.is_dir() and not folder.is_file()
    assert not (folder / "gone").exists()
    assert sorted(folder.names()) == ["a b/x.png", "약.jpg"]
    assert sorted((each.name, each.is_dir()) for each in folder.iterdir()) == [
        ("a b", True),
        ("약.jpg", False),
    ]
    assert path.read_range(1, 5) == b"yz"
    assert copies(origin) == []
    assert path.read_bytes() == b"xyz"
    assert Path(os.fspath(path)).is_relative_to(origin.folder)
    with pytest.raises(IsADirectoryError):
        folder.read_bytes()
    with pytest.raises(FileNotFoundError):
        (folder / "gone").read_bytes()
    assert (
        folder / "a b/../약.jpg"
        == folder / "약.jpg"
        == pickle.loads(pickle.dumps(folder / "약.jpg"))
    )
    assert copy.deepcopy(path).origin == origin


def test_on_another_machine_copies_lie_among_its_temporary_files(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/x", b"xyz")
    path = RemotePath.at("memory://x", Origin(PLACE, tmp_path / "exp/cache/remote", PLENTY))
    sent = pickle.dumps(path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arrived = pickle.loads(sent)
    assert Path(os.fspath(arrived)).is_relative_to(tmp_path / f"pillsnap-{os.getuid()}" / "remote")
    assert not (tmp_path / "exp").exists()
    assert path.read_bytes() == b"xyz"  # which makes that folder here
    assert pickle.loads(sent).origin == path.origin


@pytest.mark.parametrize(
    ("url", "root", "below"),
    [
        ("s3://bucket/a/../b.csv", "s3://bucket", "/b.csv"),
        ("file:///data/a b", "file:///", "/data/a b"),
        ("https://host:80/a%20b/c?key=1/2", "https://host:80", "/a b/c"),
    ],
)
def test_a_path_is_parted_from_its_root(url: str, root: str, below: str, origin: Origin) -> None:
    path = RemotePath.at(url, origin)
    found, inside = split_root(path)
    assert (str(found), inside) == (root, below)
    assert found / below == RemotePath.at(url.partition("?")[0], origin)
    assert split_root(Path("/data/x")) == (Path("/"), "/data/x")


def test_what_may_be_secret_is_not_shown(origin: Origin) -> None:
    url = "https://token@host/best.pt?X-Amz-Signature=s3cret"
    path = RemotePath.at(url, origin)
    assert str(path) == "https://…@host/best.pt?…"
    assert (path.name, path.url) == ("best.pt", url)
    assert masked("ftp://user:pw@host/x") == "ftp://user:…@host/x"
    assert masked("abfs://container@account.net/x?") == "abfs://container@account.net/x?"
    assert not is_url("/data/x") and not is_url("C://x")


def test_a_file_is_fetched_again_when_it_has_changed(memory: Any, origin: Origin) -> None:
    memory.pipe("/best.pt", b"one")
    path = RemotePath.at("memory://best.pt", origin)
    assert [sha256_file(path), path.read_bytes()][1] == b"one"
    assert copies(origin) == [b"one"]
    memory.pipe("/best.pt", b"two")  # of the same size
    assert path.read_bytes() == b"two"
    assert copies(origin) == [b"one", b"two"]


def test_of_a_file_without_a_version_no_copy_is_believed(
    memory: Any, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_, **__: {"type": "file", "size": None})
    path = RemotePath.at("memory://x", origin)
    for content in (b"one", b"four"):
        memory.pipe("/x", content)
        assert path.read_bytes() == content
        assert path.stat().st_size == len(content)
    assert copies(origin) == [b"four"]


def test_a_download_that_was_cut_off_leaves_nothing(
    memory: Any, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/x.png", b"whole")
    path = RemotePath.at("memory://x.png", origin)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", lambda _, name, to: Path(to).write_bytes(b"wh"))
        with pytest.raises(RemoteError, match="not whole") as caught:
            path.read_bytes()
    assert "2 bytes" in str(caught.value) and "memory://x.png" in str(caught.value)
    assert copies(origin) == left_over(origin) == []
    assert path.read_bytes() == b"whole"


def test_a_process_that_is_killed_in_a_download_leaves_no_half_file(
    memory: Any, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/x.png", b"whole")
    path = RemotePath.at("memory://x.png", origin)

    def die(_: Any, name: str, to: str) -> None:
        Path(to).write_bytes(b"wh")
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", die)
        process = fork.Process(target=path.read_bytes)
        process.start()
        process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert copies(origin) == [] and len(left_over(origin)) == 1
    assert path.read_bytes() == b"whole"
    assert left_over(origin) == []


def test_several_processes_that_want_a_file_fetch_it_once(
    memory: Any, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/x.png", b"whole")
    path = RemotePath.at("memory://x.png", origin)
    get_file, calls = MemoryFileSystem.get_file, tmp_path / "calls"

    def slow(files: Any, name: str, to: str) -> None:
        with calls.open("ab", buffering=0) as file:
            file.write(b".")
        time.sleep(0.2)
        get_file(files, name, to)

    def read() -> None:
        os._exit(0 if path.read_bytes() == b"whole" else 1)

    monkeypatch.setattr(MemoryFileSystem, "get_file", slow)
    processes = [fork.Process(target=read) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert calls.read_bytes() == b"."


def test_what_was_used_longest_ago_makes_room(memory: Any, tmp_path: Path) -> None:
    origin = Origin(PLACE, tmp_path, 250)
    paths = [RemotePath.at(f"memory://{name}", origin) for name in "abcd"]
    for name, path in zip("abcd", paths, strict=True):
        memory.pipe(f"/{name}", name.encode() * 100)
        if name == "d":
            assert len(copies(origin)) == 3  # none was used so long ago that it may go
            for index, old in enumerate(paths[:3]):
                os.utime(old.fetched(), (index, index))
        path.read_bytes()
    assert [content[:1] for content in copies(origin)] == [b"c", b"d"]
    assert paths[0].read_bytes() == b"a" * 100


def test_many_are_fetched_ahead_and_in_order(memory: Any, origin: Origin, tmp_path: Path) -> None:
    memory.pipe({f"/{index}": b"%d" % index for index in range(100)})
    paths = [RemotePath.at(f"memory://{index}", origin) for index in range(101)]
    found = list(fetched(paths))
    assert found == paths
    memory.rm("/", recursive=True)
    assert [path.read_bytes() for path in found[:100]] == [b"%d" % index for index in range(100)]
    assert not found[100].exists() and found[99].is_file() and found[99].stat().st_size == 2
    (folder,) = fetched([RemotePath.at("memory:///", origin)])
    assert folder.is_dir()
    assert list(fetched(iter([tmp_path]))) == [tmp_path]
    assert list(fetched([])) == []


def test_a_package_that_is_missing_is_named(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RemoteError) as caught:
        RemotePath.at("sftp://host/x", origin).exists()
    assert str(caught.value).splitlines() == [
        "what opens sftp:// is not installed",
        f"  where:    {PLACE}",
        "  got:      sftp://host/x",
        '  try:      SFTPFileSystem requires "paramiko" to be installed',
    ]
    with pytest.raises(RemoteError, match="Protocol not known: nowhere") as caught:
        RemotePath.at("nowhere://x", origin).exists()
    assert PLACE in str(caught.value)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(RemoteError, match="pip install fsspec"):
        RemotePath.at("memory://x", origin).exists()


def test_a_file_that_may_not_be_read_is_no_file_that_is_missing(
    memory: Any, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied: memory://x?")

    monkeypatch.setattr(MemoryFileSystem, "info", refuse)
    path = RemotePath.at("memory://x", origin)
    for ask in (path.exists, path.is_dir, path.read_bytes, path.fetched):
        with pytest.raises(RemoteError, match="PermissionError: Access Denied") as caught:
            ask()
    assert f"it stands in {PLACE}" in str(caught.value)


@pytest.mark.parametrize("copied", [False, True])
def test_a_disk_that_is_full_is_said_of_the_disk(
    memory: Any,
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
    copied: bool,
) -> None:
    def full(_: Any, name: str, to: str) -> None:
        # Of a copy from one disk to another both names are said.
        names = (name, None, to) if copied else (to,)
        raise OSError(28, "No space left on device", *names)

    memory.pipe("/x", b"x")
    monkeypatch.setattr(MemoryFileSystem, "get_file", full)
    with pytest.raises(RemoteError, match="no copy of it can be kept here") as caught:
        RemotePath.at("memory://x", origin).read_bytes()
    told = str(caught.value)
    assert all(part in told for part in ("memory://x", "cannot write", "free some space"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL at which a web server shows it."""
    pytest.importorskip("aiohttp", reason="fsspec opens http:// with it")
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_web_server(served: tuple[Path, str], origin: Origin) -> None:
    folder, url = served
    name = "a b/50% 약#1.png"
    (folder / "a b").mkdir()
    (folder / name).write_bytes(b"image")
    (folder / "map.json").write_text("{}")
    root = RemotePath.at(url, origin)
    assert root.is_dir() and (root / "a b").is_dir() and (root / "map.json").is_file()
    assert sorted(root.names()) == [name, "map.json"]
    assert [path.name for path in (root / "a b").iterdir()] == ["50% 약#1.png"]
    path = root / name
    assert str(path) == f"{url}/{quote(name)}"
    assert path.read_bytes() == b"image" and path.read_range(1, 2) == b"ma"
    os.utime(folder / name, (1, 1))
    (folder / name).write_bytes(b"image 2")
    assert path.read_bytes() == b"image 2"
    assert RemotePath.at(f"{path}?v=1", origin).read_bytes() == b"image 2"
    assert not (root / "gone.png").exists()
    with pytest.raises(FileNotFoundError):
        (root / "gone.png").read_bytes()


def test_a_host_that_is_not_there(served: tuple[Path, str], origin: Origin) -> None:
    path = RemotePath.at("http://127.0.0.1:1/x?key=s3cret", origin)
    with pytest.raises(RemoteError, match="Cannot connect to host") as caught:
        path.exists()
    assert "http://127.0.0.1:1/x?…" in str(caught.value) and "s3cret" not in str(caught.value)


def test_a_host_that_keeps_silent_is_not_waited_for(
    served: tuple[Path, str], origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillsnap.core.filesystems._SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = RemotePath.at(f"http://127.0.0.1:{silent.getsockname()[1]}/x", origin)
        with pytest.raises(RemoteError, match="Timeout"):
            path.read_bytes()
