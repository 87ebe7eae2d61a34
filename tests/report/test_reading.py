"""Files of a folder of reports: whatever lies there, reading it comes to an end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pillsnap.report.reading import MAX_BYTES, read_report_files


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
        found = [(path.name, data) for path, data in read_report_files(tmp_path)]
    assert found == [("b.json", b"{}"), (os.fsdecode(b"d\xff\n.json"), b"\xff")]


def test_a_folder_of_reports_may_be_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("missing", "fifo", "loop"):
        assert list(read_report_files(tmp_path / name)) == []
