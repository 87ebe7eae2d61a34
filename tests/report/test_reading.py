"""Files of a folder of reports: whatever lies there, reading it comes to an end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pillsnap.report.reading import MAX_BYTES, list_reports, read_bounded


def test_anything_may_lie_among_reports(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(b"{}")
    (tmp_path / "c.txt").write_bytes(b"no report")
    (tmp_path / os.fsdecode(b"d\xff\n.json")).write_bytes(b"\xff")
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (tmp_path / "gone.json").symlink_to("nowhere")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "folder.json").mkdir()
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.json"))
        found = list_reports(tmp_path)
    assert list(found) == ["b.json", os.fsdecode(b"d\xff\n.json"), "huge.json"]
    about = (tmp_path / "b.json").stat()
    assert found["b.json"] == (about.st_size, about.st_mtime_ns)
    assert read_bounded(tmp_path / "b.json") == b"{}"
    with pytest.raises(ValueError, match=f"more than {MAX_BYTES} bytes"):
        read_bounded(tmp_path / "huge.json")
    with pytest.raises(OSError, match="Not a regular file"):  # it may have become one since
        read_bounded(tmp_path / "fifo.json")


def test_a_folder_of_reports_may_be_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("missing", "fifo", "loop"):
        assert list_reports(tmp_path / name) == {}
