"""ultralytics' data.yaml as validation data; what its own loader finds is what is found here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pillsnap.config.settings import Config, Data, Detection, Paths
from pillsnap.config.validation import Combo, Validation
from pillsnap.core.errors import DataError
from pillsnap.data.datasets import Dataset, read_dataset
from pillsnap.data.labels import Box
from pillsnap.data.scenes import SCENES

NAMES = ["알약", "capsule", "no"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images of two folders: one with a box, one with a polygon, one without a label file."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "pills"
    for name in ("images/val/a.jpg", "images/val/b.png", "images/extra/약.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, line in (("val/a", "2 0.5 0.5 0.2 0.2"), ("extra/약", "0 .1 .1 .3 .1 .3 .5 .1 .5")):
        label = root / "labels" / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(line)
    return root


def read(path: Path, content: dict[str, Any], **combo: Any) -> Dataset:
    path.write_text(yaml.safe_dump({"names": NAMES, **content}, allow_unicode=True))
    config = Config(
        paths=Paths(path.parent),
        data=Data(Validation(combo=Combo(path, **combo))),
        detection=Detection(num_classes=3),
    )
    return read_dataset(config, SCENES)


BOTH = ["images/val", "images/extra"]


def test_folders_labels_names_and_polygons(data: Path) -> None:
    found = read(data / "data.yaml", {"path": str(data), "val": BOTH})
    assert [sample.id for sample in found.samples] == ["extra/약.jpg", "val/a.jpg", "val/b.png"]
    assert all(sample.path.is_file() for sample in found.samples)
    (polygon,), (box,), none = (sample.boxes or () for sample in found.samples)
    assert (polygon.class_id, polygon.cy, polygon.h) == (0, pytest.approx(0.3), pytest.approx(0.4))
    assert box == Box(2, 0.5, 0.5, 0.2, 0.2) and none == ()
    assert (found.unlabelled, found.polygons) == (1, 1)
    assert found.categories is not None
    assert found.categories.names == tuple(NAMES)
    assert found.categories.used == {0, 2}


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("pills/data.yaml", {"val": "images/val"}),
        ("pills/data.yaml", {"val": "../images/val"}),  # as Roboflow writes it
        ("pills/data.yaml", {"path": ".", "validation": "images/val"}),
        ("cfg/data.yaml", {"path": "../pills", "val": "images/val"}),
        ("cfg/data.yaml", {"path": "pills", "val": ["images/val"]}),  # from the working folder
        ("cfg/data.yaml", {"path": "sets", "val": "images/val"}),  # from its folder datasets
        ("cfg/data.yaml", {"path": "pills", "val": "val.txt"}),
    ],
)
def test_where_images_are_looked_for(data: Path, place: str, content: dict[str, Any]) -> None:
    (data.parent / "cfg").mkdir()
    (data.parent / "datasets").mkdir()
    (data.parent / "datasets/sets").symlink_to(data)
    absolute = data / "images/val/b.png"
    (data / "val.txt").write_text(f"./images/val/a.jpg\n{absolute}\n\n# notes\n")
    found = read(data.parent / place, content)
    assert [sample.id for sample in found.samples] == ["a.jpg", "b.png"]
    assert [sample.boxes for sample in found.samples] == [(Box(2, 0.5, 0.5, 0.2, 0.2),), ()]


def test_a_list_of_paths_from_the_working_folder(data: Path) -> None:
    (data / "lists").mkdir()
    (data / "lists/val.txt").write_text("pills/images/val/a.jpg\nimages/val/lost.jpg\n")
    found = read(data / "data.yaml", {"val": "lists/val.txt"})
    assert [sample.path.is_file() for sample in found.samples] == [True, False]


def test_names_may_be_a_mapping_or_missing(data: Path) -> None:
    found = read(data / "data.yaml", {"val": "images/val", "names": dict(enumerate(NAMES))})
    assert found.categories is not None and found.categories.names == tuple(NAMES)
    assert read(data / "data.yaml", {"val": "images/val", "names": None}).categories is None
    alike = read(data / "data.yaml", {"val": "images/val"}, single_cls=True)
    assert alike.categories is None
    assert [box.class_id for box in alike.samples[0].boxes or ()] == [0]


def test_classes_are_those_that_the_detector_calls_so(data: Path) -> None:
    found = read(data / "data.yaml", {"val": BOTH}).categories
    assert found is not None
    classes, note = found.resolve(("no", "capsule", "알약"), 3)
    assert classes == {0: 2, 2: 0} and "taken by name" in (note or "")
    assert found.resolve(NAMES, 3) == ({0: 0, 2: 2}, None)
    with pytest.raises(DataError, match=r"data\.yaml: names"):
        found.resolve(("알약", "b", "c"), 3)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({}, ["no validation images", "data.yaml: val", "a folder, a .txt file"]),
        ({"val": [3]}, ["no validation images"]),
        ({"val": "images/lost"}, ["are not there", "images/lost", "an absolute `path`"]),
        ({"path": "gone", "val": "images/val"}, ["are not there", "datasets/gone"]),
        ({"val": "images/val", "names": {0: "a", 2: "b"}}, ["name for each class", "names"]),
        ({"val": "images/val", "names": ["pill"]}, ["class 2 of 1 classes"]),
        ({"val": "images/none"}, ["not one image has a label file", "labels/none/z.txt"]),
    ],
)
def test_what_is_wrong_is_named(data: Path, content: dict[str, Any], parts: list[str]) -> None:
    (data / "images/none").mkdir()
    (data / "images/none/z.jpg").touch()
    with pytest.raises(DataError) as caught:
        read(data / "data.yaml", content)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("text", ["names: [", "- a\n", "", "!!python/object:os.system {}"])
def test_files_that_are_no_data_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    config = Config(paths=Paths(tmp_path), data=Data(Validation(combo=Combo(path))))
    with pytest.raises(DataError, match=r"data\.yaml"):
        read_dataset(config, SCENES)


def test_the_same_images_and_labels_as_ultralytics(data: Path) -> None:
    os.environ.setdefault("YOLO_OFFLINE", "true")
    utils: Any = pytest.importorskip("ultralytics.data.utils")
    found = read(data / "data.yaml", {"path": str(data), "val": BOTH})
    images = [str(sample.path) for sample in found.samples]
    labels = [Path(name) for name in utils.img2label_paths(images)]
    assert [bool(sample.boxes) for sample in found.samples] == [each.is_file() for each in labels]
