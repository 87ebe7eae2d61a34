"""What ultralytics writes into an export is held against checkpoint and configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import ModelProto, parser

from pillsnap.config.settings import Config
from pillsnap.core.errors import WrongCandidate
from pillsnap.export.onnxfile import Exported, exported
from pillsnap.export.ultralytics import require_named_fit, unchecked_names
from tests.small_models import Experiment

NAMES = ("round", "oval", "long")
FITS: dict[str, Any] = {
    "author": "Ultralytics",
    "names": dict(enumerate(NAMES)),
    "stride": 32,
    "imgsz": [64, 96],
    "channels": 3,
    "args": {"dynamic": False, "nms": None},
}


def described(**entries: Any) -> Exported:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n,3,h,w] x) => (float[n,3,h,w] y)'
    model: ModelProto = parser.parse_model(text + " {y = Identity(x)}")
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=str(value))
    return exported(Path("best.onnx"), "0" * 64, model)


@pytest.fixture
def detector(experiment: Experiment) -> Config:
    return experiment(boxes_of=3)


def require(config: Config, stage: str = "detection", **entries: Any) -> None:
    names = NAMES if stage == "detection" else ()
    require_named_fit(described(**{**FITS, **entries}), config, stage, names, (8, 16, 32))


def test_what_fits_is_accepted_and_what_says_nothing(detector: Config) -> None:
    require(detector)
    require(detector, imgsz=[640, 640], args={"dynamic": True})  # any size will do
    require(detector, author="others", names={0: "pill"}, stride=64)
    for nothing in ("", "{", "{1: 'a'}", "[" * 100_000, "lambda: 0"):
        require(detector, names=nothing, stride=nothing, imgsz=nothing, args=nothing)
    require_named_fit(described(**FITS), detector, "detection")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"names": ["capsule"]}, r"another number of classes.*got: +1 .*expected: 3"),
        ({"names": ["oval", "round", "long"]}, r"in another order.*0 oval, 1 round\n"),
        ({"names": ("round", "oval", "square")}, r"are others.*2 square.*2 long"),
        ({"names": {"1": "round", "0": "oval", "2": "long"}}, r"in another order.*0 oval, 1 r"),
        ({"names": {0: "pill"}}, r"another number of classes.*got: +1 .*expected: 3"),
        (
            {"names": {0: "oval", 1: "round", 2: "long"}},
            r"in another order.*got: +0 oval, 1 round\n.*expected: 0 round, 1 oval\n",
        ),
        ({"names": {0: "round", 1: "oval", 2: "square"}}, r"are others.*2 square.*2 long"),
        ({"stride": 64}, r"another largest stride.*got: +64 .*expected: 32"),
        ({"imgsz": [96, 64]}, r"another image size.*\[96, 64\].*\[64, 96\]"),
        ({"channels": 4}, r"another number of channels.*got: +4"),
    ],
)
def test_what_does_not_fit_is_named(detector: Config, entries: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongCandidate, match=f"(?s){words}") as caught:
        require(detector, **entries)
    assert "best.onnx" in str(caught.value)


def test_names_that_cannot_be_read_or_compared_are_said(detector: Config, tmp_path: Path) -> None:
    def said(names: Any, known: tuple[str, ...] = NAMES, **entries: Any) -> str | None:
        return unchecked_names(described(**{**FITS, "names": names, **entries}), detector, known)

    by_text = {str(index): name for index, name in enumerate(NAMES)}
    for names in (FITS["names"], by_text, [*NAMES], NAMES, ""):
        assert said(names) is None
        require(detector, names=names)
    for names in ("{", {1: "a"}, {0: "a", "0": "b"}, "lambda: 0", 3):
        words = said(names)
        assert words is not None and f"cannot be read ({names})" in words
        assert said(names, author="others") is None
    words = said([*NAMES], ())
    assert words is not None and "0 round, 1 oval, 2 long" in words
    class_map = tmp_path / "class_map.json"
    class_map.write_text(json.dumps({"oval": 0, "round": 1, "long": 2}))
    config = replace(detector, data=replace(detector.data, class_map=class_map))
    config = replace(config, classification=replace(config.classification, num_classes=3))
    assert unchecked_names(described(**FITS), config, ()) is None


def test_a_classifier_s_names_are_held_to_the_class_map(
    experiment: Experiment, tmp_path: Path
) -> None:
    path = tmp_path / "class_map.json"
    path.write_text(json.dumps({"oval": 0, "round": 1, "long": 2}))
    config = experiment(backbone="test_resnet", classes=3)
    require(config, "classification", imgsz=[64, 64])
    config = replace(config, data=replace(config.data, class_map=path))
    with pytest.raises(WrongCandidate, match=r"(?s)in another order.*0 round.*0 oval"):
        require(config, "classification", imgsz=[64, 64])
    # Names that are no codes tell nothing.
    require(config, "classification", imgsz=[64, 64], names={0: "A", 1: "B", 2: "C"})
