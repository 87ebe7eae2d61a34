"""Pickles and archives made to hang or to fill the memory: a message each, within limits."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.safe_load import checkpoint_stage
from pillsnap.engines.torch.torchfile.reading import read_checkpoint


def write_pickle(path: Path, data: bytes, **entry: Any) -> Path:
    """A checkpoint in zip format whose pickle is this one."""
    with zipfile.ZipFile(path, "w", **entry) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return path


def text(value: str) -> bytes:
    """Opcode of a text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module: str, name: str) -> bytes:
    """Opcode of a global."""
    return f"c{module}\n{name}\n".encode()


def tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00") -> bytes:
    """A tensor over the four bytes of storage 0."""
    storage = b"(" + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu")
    function = named("torch._utils", "_rebuild_tensor_v2")
    end = b"\x89" + named("collections", "OrderedDict") + b")R"
    return function + b"(" + storage + b"K\x01tQ" + offset + size + stride + end + b"tR"


BIG = b"\x8a\x06" + (10**12).to_bytes(6, "little")
PICKLES: dict[str, tuple[bytes, str]] = {
    "a billion empty sets by steps": (b"\x8f0" * 1_500_000 + b"N.", "pickle is too long"),
    "nested tuples as a key, 2^60 hashes": (
        b"}" + b"K\x01\x85" + b"q\x00h\x00\x86" * 60 + b"K\x01s.",
        "a key that no trainer writes",
    ),
    "a set of nested tuples": (
        named("builtins", "set") + b"(]" + b"K\x01\x85" + b"q\x00h\x00\x86" * 60 + b"atR.",
        "a key that no trainer writes",
    ),
    "integers chosen to collide": (
        b"}("
        + b"".join(
            b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"K\x01"
            for k in range(50, 1000)
        )
        + b"u.",
        "a key that no trainer writes",
    ),
    "one long text encoded a million times": (
        named("_codecs", "encode")
        + b"q\x01"
        + text("a" * 10**6)
        + text("latin1")
        + b"\x86q\x02"
        + b"h\x01h\x02R" * 300_000
        + b".",
        "pickle is too long",
    ),
    "an index of the memo beyond memory": (b"Nr\xff\xff\xff\xff.", ""),
    "a tensor of terabytes over one value": (
        tensor(BIG + b"\x85", b"K\x00\x85") + b".",
        "tensors are larger than the file",
    ),
    "a tensor beyond its storage": (
        tensor(BIG + b"\x85", b"K\x01\x85") + b".",
        "reaches beyond its values",
    ),
    "an offset below its storage": (
        tensor(b"K\x01\x85", b"K\x01\x85", b"J\xff\xff\xff\xff") + b".",
        "damaged",
    ),
    "a storage that the file has not": (
        tensor(b"K\x01\x85", b"K\x01\x85").replace(b"K\x01tQ", BIG + b"tQ") + b".",
        "values are not all there",
    ),
    "a million bytes by one number": (
        named("builtins", "bytearray") + BIG + b"\x85R.",
        "",
    ),
    "lists in one another, a million deep": (b"]" * 900_000 + b"a" * 899_999 + b".", ""),
    "an opcode of extensions": (b"\x82\x01.", "not of a kind that torch.save writes"),
    "a pickle of text opcodes": (b"I1\n.", "not of a kind that torch.save writes"),
    "an empty stack": (b"R.", "damaged"),
    "cut off in a text": (b"X\xff\xff\xff\x7fabc", "damaged"),
}


@pytest.mark.usefixtures("memory_limit")
@pytest.mark.parametrize("name", list(PICKLES))
def test_pickle_that_asks_for_more_than_it_holds(name: str, tmp_path: Path) -> None:
    data, words = PICKLES[name]
    path = write_pickle(tmp_path / "a.pt", b"\x80\x02" + data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", b"\0\0\0\0")
    if words:
        with pytest.raises(CheckpointError, match=words) as caught:
            read_checkpoint(path, {})
        assert str(path) in str(caught.value)
    else:
        read_checkpoint(path, {})  # harmless, and read within the limit


def test_data_that_inflates(tmp_path: Path) -> None:
    zeros = b"\x80\x02" + text("a" * (64 * 2**20)) + b"."
    path = write_pickle(tmp_path / "a.pt", zeros, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    for read in (lambda: read_checkpoint(path, {}), lambda: checkpoint_stage(path)):
        with pytest.raises(CheckpointError, match="would grow beyond measure"):
            read()


def test_checkpoint_packed_again_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(5)}, buffer)
    with (
        zipfile.ZipFile(buffer) as written,
        zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in written.namelist():
            archive.writestr(name, written.read(name))
    assert read_checkpoint(tmp_path / "a.pt", {})["a"].tolist() == [0, 1, 2, 3, 4]


def test_entries_that_are_encrypted_or_oddly_packed(tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "a.pt", b"\x80\x02N.")
    data = path.read_bytes()
    at = (
        data.rindex(b"PK\x01\x02archive")
        if b"PK\x01\x02archive" in data
        else data.index(b"PK\x01\x02")
    )
    locked = bytearray(data)
    locked[at + 8] |= 1
    path.write_bytes(locked)
    with pytest.raises(CheckpointError, match="archive is encrypted"):
        checkpoint_stage(path)
    write_pickle(path, b"\x80\x02N.", compression=zipfile.ZIP_LZMA)
    with pytest.raises(CheckpointError, match="packed by a method"):
        checkpoint_stage(path)


def test_zip_directory_of_a_million_entries(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a"
    directory = entry * (10 * 2**20 // len(entry))
    end = b"PK\x05\x06" + bytes(4) + struct.pack("<HHIIH", 9, 9, len(directory), 2, 0)
    path.write_bytes(b"PK" + directory + end)
    with pytest.raises(CheckpointError, match="zip directory is too large"):
        checkpoint_stage(path)


def test_storages_in_big_endian_order(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.tensor([1.5, -2.0])}, buffer)
    with (
        zipfile.ZipFile(buffer) as written,
        zipfile.ZipFile(tmp_path / "a.pt", "w") as archive,
    ):
        for name in written.namelist():
            value = written.read(name)
            if name.endswith("data/0"):
                value = struct.pack(">2f", 1.5, -2.0)
            archive.writestr(name, b"big" if name.endswith("byteorder") else value)
    assert read_checkpoint(tmp_path / "a.pt", {})["a"].tolist() == [1.5, -2.0]
