"""safetensors: weights of both stages out of a file that can run nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pillsnap.config.settings import Classification, Config, Detection, Export, InputShape, Paths
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.checkpoints import (
    build_classification_model,
    build_detection_model,
    find_best_checkpoint,
    list_checkpoints,
)
from pillsnap.engines.torch.safe_load import checkpoint_stage
from pillsnap.infer.choice import engine_of
from tests.small_models import DetectorFile, make_classifier, make_detector

CONFIG = Config(
    paths=Paths(Path("exp")),
    detection=Detection("yolo11n", 3),
    classification=Classification("test_resnet", 5),
    export=Export(input_shape=InputShape((1, 3, 64, 64), (1, 3, 64, 64))),
)


def refusal(build: Callable[[Config, Path], Any], config: Config, path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        build(config, path)
    assert str(path) in str(caught.value) or "config: " in str(caught.value)
    return " ".join(str(caught.value).split())


@pytest.mark.parametrize("name", ["c.safetensors", "classification_best.pt"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_classifier_gives_the_trained_models_own_logits(
    name: str, prefix: str, tmp_path: Path
) -> None:
    trained, path = make_classifier(), tmp_path / name
    save_file({prefix + key: value for key, value in trained.state_dict().items()}, path)
    before = path.read_bytes()
    module = build_classification_model(CONFIG, path).module
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(module(images), trained(images))
    assert checkpoint_stage(path) == "classification"
    assert path.read_bytes() == before


@pytest.mark.parametrize("prefix", ["", "model."])  # of the network, and of YOLO() around it
def test_detector_gives_the_trained_models_own_boxes(
    prefix: str, detector_file: DetectorFile, tmp_path: Path
) -> None:
    pickled = build_detection_model(CONFIG, detector_file("yolo11n", 3))
    state = make_detector("yolo11n", 3).half().state_dict()
    path = tmp_path / "d.safetensors"
    names = json.dumps({index: f"pill{index}" for index in range(3)})
    metadata = {"names": names} if prefix else None
    save_file({prefix + key: value for key, value in state.items()}, path, metadata)
    loaded = build_detection_model(CONFIG, path)
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(loaded.module(images), pickled.module(images))
    assert loaded.strides == pickled.strides
    assert loaded.class_names == (pickled.class_names if prefix else ())
    assert checkpoint_stage(path) == "detection"


def test_detector_of_other_weights_says_what_is_missing(tmp_path: Path) -> None:
    state, path = make_detector("yolo11n", 3).state_dict(), tmp_path / "d.safetensors"
    save_file(state, path)
    other = replace(CONFIG, detection=Detection("yolo11n", 80))
    text = refusal(build_detection_model, other, path)
    assert "detector of 3 classes, config says 80" in text
    assert "set detection.num_classes: 3" in text
    for name in ("yolo99x", "../yolo11n", "http://127.0.0.1:9/yolo11n"):
        unknown = replace(CONFIG, detection=Detection(name, 3))
        assert "ultralytics has no such detector" in refusal(build_detection_model, unknown, path)
    assert "mismatched" in refusal(
        build_detection_model, replace(CONFIG, detection=Detection("yolov11s.pt", 3)), path
    )
    del state["model.0.conv.weight"]
    save_file(state, path)
    text = refusal(build_detection_model, CONFIG, path)
    assert "1 missing: model.0.conv.weight" in text and "set detection.model" in text


def test_metadata_are_held_against_the_configuration(tmp_path: Path) -> None:
    path, state = tmp_path / "c.safetensors", make_classifier().state_dict()
    save_file(state, path, {"arch": "test_efficientnet"})
    assert "is a test_efficientnet" in refusal(build_classification_model, CONFIG, path)
    save_file(state, path, {"args": json.dumps({"mean": [0.1, 0.2, 0.3]})})
    assert "args.mean: [0.1, 0.2, 0.3]" in refusal(build_classification_model, CONFIG, path)
    save_file(state, path, {"args": "{not JSON", "model": "x", "names": "["})
    build_classification_model(CONFIG, path)


def header(content: object, claimed: int | None = None, values: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (len(text) if claimed is None else claimed).to_bytes(8, "little") + text + values


def tensor(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


DAMAGED = {
    "a header longer than the file": header({"a": tensor(0, 4, [1])}, 500),
    "a header longer than memory": header({"a": tensor(0, 4, [1])}, 2**40),
    "a header that is long": header(b"{" + b" " * (11 * 2**20) + b"}"),
    "no JSON": header(b"{'a': 1}       "),
    "deeply nested": header(b'{"a":' * 50_000),
    "values beyond the file": header({"a": tensor(0, 4000, [1000])}, values=bytes(4)),
    "values that are not the shape's": header({"a": tensor(0, 4, [1000])}, values=bytes(4)),
    "a shape beyond 64 bits": header({"a": tensor(0, 4, [2**40, 2**40])}, values=bytes(4)),
    "values that overlap": header(
        {"a": tensor(0, 8, [2]), "b": tensor(4, 12, [2])}, values=bytes(12)
    ),
    "an unknown dtype": header({"a": tensor(0, 4, [1], "PICKLE")}, values=bytes(4)),
    "metadata that are no text": header({"__metadata__": {"a": [1]}}),
    "a length that reads as a zip's": header(b"{" + b" " * (0x4B50 - 1)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_file_is_a_message(name: str, tmp_path: Path) -> None:
    path = tmp_path / "classification_best.safetensors"
    path.write_bytes(DAMAGED[name])
    for build in (build_classification_model, build_detection_model):
        assert "the safetensors file is damaged" in refusal(build, CONFIG, path)


def test_it_is_found_beside_the_other_format_and_both_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"beside it: model\.safetensors") as caught:
        find_best_checkpoint(Config(paths=Paths(tmp_path)), "classification")
    assert "as classification_best.pt or classification_best.safetensors" in str(caught.value)
    weights = folder / "classification_best.safetensors"
    weights.touch()
    assert find_best_checkpoint(Config(paths=Paths(tmp_path)), "classification") == weights
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == [
        weights.name,
        "model.safetensors",
    ]
    assert engine_of(weights, Config(paths=Paths(tmp_path))) == "torch"
    (folder / "classification_best.pt").touch()
    with pytest.raises(CheckpointError, match="there are two classification checkpoints"):
        find_best_checkpoint(Config(paths=Paths(tmp_path)), "classification")
