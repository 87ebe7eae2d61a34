"""Files on their way to nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillsnap.core.errors import PillsnapError
from pillsnap.gate.cluster.parcels import Parcel, pack


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    folder = tmp_path / "driver"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "model.data").write_bytes(b"weights")
    return pack([folder / "model.onnx", folder / "model.data"], lambda content: content)


def test_files_of_the_same_content_at_the_same_place_stay_there(parcel: Parcel) -> None:
    assert parcel.lies_there()
    (parcel.folder / "model.data").write_bytes(b"others")
    assert not parcel.lies_there()
    (parcel.folder / "model.data").unlink()
    assert not parcel.lies_there()


def test_files_are_written_once_for_all_processes_of_a_node(parcel: Parcel, tmp_path: Path) -> None:
    fetched = []

    def fetch(content: bytes) -> bytes:
        fetched.append(content)
        return content

    into = tmp_path / "node" / "files"
    parcel.write(into, fetch)
    parcel.write(into, fetch)
    assert sorted(fetched) == [b"graph", b"weights"]
    assert (into / "model.onnx").read_bytes() == b"graph"
    (into / "model.data").write_bytes(b"weigh")  # damaged since
    parcel.write(into, fetch)
    assert (into / "model.data").read_bytes() == b"weights"
    assert list(into.glob("*.tmp")) == []


def test_a_file_that_arrives_damaged_is_refused(parcel: Parcel, tmp_path: Path) -> None:
    with pytest.raises(PillsnapError, match="arrived as another than was sent"):
        parcel.write(tmp_path / "node", lambda content: content[:-1])
    assert not (tmp_path / "node" / "model.onnx").exists()


def test_a_file_that_cannot_be_read_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(PillsnapError, match="cannot read the file"):
        pack([tmp_path / "gone.onnx"], lambda content: content)
