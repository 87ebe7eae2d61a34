"""Git LFS pointers and links that became texts are named as such wherever a file is opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePath

import numpy as np
import pytest
from onnx import TensorProto, helper

from pillsnap.core.errors import DataError, PillsnapError
from pillsnap.core.placeholders import find_placeholder, read_placeholder
from pillsnap.data.cocolabels import read_coco_boxes
from pillsnap.data.labels import read_yolo_boxes
from pillsnap.data.listing import list_images, manifest_rows
from pillsnap.data.maps import read_class_map
from pillsnap.engines.torch.safe_load import require_checkpoint
from pillsnap.export import describe_onnx
from pillsnap.gate.bundle import Bundle
from pillsnap.infer.standalone_main import _open_session
from pillsnap.pipeline.images import read_image

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 1504930\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.png", "b.png"),
        ("a.png", "../other/b c.PNG\n"),
        ("latest.onnx", "detection-20250101-000000-nogit.onnx"),
        ("a.png", "../.git/annex/objects/x1/y2/SHA256-s12--4d4d"),
        ("images", "../photos"),
        ("map.json", "/data/약.json"),
    ],
)
def test_the_text_of_a_link(name: str, text: str) -> None:
    found = find_placeholder(text.encode(), PurePath(name))
    assert found is not None and found.target == text.strip()
    assert "core.symlinks" in found.hint and found.target in found.kind


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.png", ""),
        ("a.png", "not an image"),
        ("a.png", "\x89PNG\r\n\x1a\n"),
        ("a.png", "b.png\nc.png\n"),
        ("a.png", "a" * 5000 + ".png"),
        ("a.txt", "0 0.5 0.5 0.2 0.2"),
        ("map.json", '{"a": 0}'),
        ("m.csv", "image_path,mapping_code\na.csv,K-1\n"),
        (".env", "API_KEY=a/b"),
    ],
)
def test_content_of_its_own(name: str, text: str) -> None:
    assert find_placeholder(text.encode(), PurePath(name)) is None


def test_what_cannot_be_read_is_no_placeholder(tmp_path: Path) -> None:
    assert read_placeholder(tmp_path) is None
    assert read_placeholder(tmp_path / "missing") is None
    assert read_placeholder(tmp_path / "a\0b") is None


def with_weights(path: Path) -> object:
    """A model whose weights lie in the file at `path`."""
    shape = [2, 3]
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape)
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=path.name)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (path.parent / "model.onnx").write_bytes(model.SerializeToString())
    return describe_onnx(path.parent / "model.onnx", "classification")


def of_a_bundle(path: Path) -> object:
    """A bundle of which the file at `path` is a part."""
    stage = {"stage": "classification", "mode": "smoke", "shards": [path.stem], "reference": {}}
    transform = {"size": 4, "mean": [0.5] * 3, "std": [0.5] * 3}
    transform |= {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}
    cell = {**stage, "transform": transform, "strides": [], "sha256": {path.name: "0" * 64}}
    content = {"format": 1, "cells": [cell]}
    (path.parent / "manifest.json").write_text(json.dumps(content))
    return Bundle(path.parent).samples("classification", "smoke")


OPENED: dict[str, Callable[[Path], object]] = {
    "photo.png": read_image,
    "model.onnx": lambda path: describe_onnx(path, "classification"),
    "shipped.onnx": lambda path: _open_session(path, "0" * 64, ["CPUExecutionProvider"], 1),
    "weights.bin": with_weights,
    "best.pt": require_checkpoint,
    "map.json": lambda path: read_class_map(path, 4),
    "coco.json": read_coco_boxes,
    "labels.txt": lambda path: read_yolo_boxes(path, 1),
    "manifest.csv": lambda path: list(manifest_rows(path)),
    "images": list_images,
    "classification-smoke-00001.json": of_a_bundle,
}


@pytest.mark.parametrize("name", OPENED)
@pytest.mark.parametrize(
    ("text", "words"), [(POINTER, "git lfs pull"), ("../there/{}", "core.symlinks true")]
)
def test_what_stands_in_a_files_place_is_named_with_what_helps(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    path = tmp_path / name
    path.write_text(text.format(name))
    with pytest.raises(PillsnapError) as caught:
        OPENED[name](path)
    message = str(caught.value)
    assert words in message and str(path) in message
    assert (
        "a Git LFS pointer" if text == POINTER else f"became a text, to {text}".format(name)
    ) in (message)
    assert "damaged" not in message


def test_a_file_of_its_own_is_refused_as_before(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"a": 1,')
    with pytest.raises(DataError, match="this is not JSON"):
        read_class_map(path, 4)
    (tmp_path / "m.onnx").write_bytes(np.arange(99, dtype=np.uint8).tobytes())
    with pytest.raises(PillsnapError, match="not a whole ONNX model"):
        describe_onnx(tmp_path / "m.onnx", "classification")
