"""Metadata read without the weights beside it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from pillsnap.export.properties import read_properties
from tests.engines.test_onnxruntime import save_network


def save(path: Path, properties: dict[str, str]) -> Path:
    model = onnx.load(save_network(path))
    helper.set_model_props(model, properties)
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path


def test_all_of_it_is_found(tmp_path: Path) -> None:
    properties = {"pillsnap.stage": "detection", "알약": "é\n", "": "", "long": "x" * 100_000}
    assert read_properties(save(tmp_path / "a.onnx", properties)) == properties
    assert read_properties(save(tmp_path / "a.onnx", {})) == {}


def test_weights_are_not_read(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.onnx", {"key": "value"}).read_bytes()
    # A field of 2 GiB that is no more than a hole in the file.
    size = 2**31 - 1
    head = bytes([7 << 3 | 2]) + b"\xff\xff\xff\xff\x07"
    path = tmp_path / "b.onnx"
    with path.open("wb") as file:
        file.write(head)
        file.seek(size, 1)
        file.write(whole)
    assert read_properties(path) == {"key": "value"}


def test_a_field_that_claims_more_than_there_is_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(bytes([14 << 3 | 2]) + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + b"x")
    assert read_properties(path) == {}


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_properties(tmp_path / "gone.onnx")


@given(st.binary(max_size=64))
def test_anything_may_stand_in_a_file(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.onnx"
    path.write_bytes(data)
    assert isinstance(read_properties(path), dict)
