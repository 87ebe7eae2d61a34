"""Labels as training took them: YOLO lines as ultralytics reads them, COCO categories by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pillsnap.compare.loading import load_batches
from pillsnap.core.errors import DataError
from pillsnap.data.categories import Categories
from pillsnap.data.cocolabels import read_coco_boxes
from pillsnap.data.datasets import Sample
from pillsnap.data.labels import LabelFile, read_yolo_boxes
from pillsnap.engines.torch.yolo import quiet_ultralytics
from pillsnap.pipeline.transforms import LetterboxTransform

CLASSES = 3
BOX = "0 0.5 0.5 0.2 0.2"
POLYGON = "1 0.1 0.1 0.3 0.1 0.35 0.4 0.1 0.4"


def read(folder: Path, text: str, *, single_cls: bool = False) -> LabelFile | None:
    path = folder / "a.txt"
    path.write_bytes(text.encode())
    try:
        return read_yolo_boxes(path, 1 if single_cls else CLASSES, single_cls=single_cls)
    except DataError:
        return None


def as_training_takes_them(
    folder: Path, text: str, *, single_cls: bool = False
) -> list[list[float]] | None:
    """Rows of class, centre and size; None where the image is left out of training."""
    quiet_ultralytics()
    from ultralytics.data.utils import verify_image_label

    Image.new("RGB", (20, 20)).save(folder / "a.png")
    (folder / "a.txt").write_bytes(text.encode())
    count = 1 if single_cls else CLASSES
    names = (str(folder / "a.png"), str(folder / "a.txt"))
    found = verify_image_label((*names, "", False, count, 0, 0, single_cls))
    if found[0] is None:
        return None
    rows = np.array(found[1])
    rows[:, 0] *= not single_cls  # as its data set does afterwards
    return sorted(rows.tolist())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n \n",
        BOX,
        f"\ufeff{BOX}\r\n\r\n{BOX[:-1]}3\r\n",
        f"{BOX}\r{BOX[:-1]}3\r",
        f"{BOX}\x0b{BOX[:-1]}3",
        "2.0\t.5 5e-1\t+.2 0.2",
        "1_0 0.5 0.5 0.2 0.2",
        "0 0.5 1.000002 0.1 0.1",
        "0 1.0021 -0.0099 1.01 0.1",
        "0 1.0101 0.5 0.1 0.1",
        "0 0.5 -0.0101 0.1 0.1",
        "0 0.5 0.5 -0.001 0.1",
        "0 320 240 64 64",
        "0 nan 0.5 0.1 0.1",
        "0 inf 0.5 0.1 0.1",
        "nan 0.5 0.5 0.1 0.1",
        "-1 0.5 0.5 0.1 0.1",
        "0.5 0.5 0.5 0.1 0.1",
        "3 0.5 0.5 0.1 0.1",
        "pill 0.5 0.5 0.1 0.1",
        "0,0.5,0.5,0.1,0.1",
        "0 0.5 0.5 0.1",
        "0 0.5 0.5 0.1 0.1 0.9",
        f"{BOX}\n{BOX} 0.9",
        f"{BOX}\n{BOX}\n{BOX}0",
        f"{BOX}\n0 0.50000000001 0.5 0.2 0.2",
        f"{BOX}\n1{BOX[1:]}",
        POLYGON,
        f"{POLYGON}\n{POLYGON}\n{POLYGON} 0.1 0.2",
        f"{POLYGON}\n{BOX}",
        f"{POLYGON}\n1",
        f"{POLYGON} nan 0.2",
        f"{POLYGON} 0.2 nan",
        f"{POLYGON} 0.5",
        f"{POLYGON}\n{BOX} 0.9",
        "1 -0.2 0.1 0.3 0.1 1.1 0.4",
        "1 0.1 0.1 0.3 0.1 2.3 0.4",
        "1 -1 -1 3 0.1 0.35 0.4",
        "3 0.1 0.1 0.3 0.1 0.35 0.4",
    ],
)
def test_boxes_are_those_that_training_took(tmp_path: Path, text: str) -> None:
    trained = as_training_takes_them(tmp_path, text)
    found = read(tmp_path, text)
    assert (found is None) == (trained is None)
    if found is not None and trained is not None:
        rows = sorted([box.class_id, box.cx, box.cy, box.w, box.h] for box in found.boxes)
        assert np.allclose(np.reshape(rows, (-1, 5)), np.reshape(trained, (-1, 5)), atol=1e-7)


def test_of_a_training_with_single_cls_every_class_is_the_first(tmp_path: Path) -> None:
    text = f"{BOX}\n7{BOX[1:-1]}3\n"
    assert as_training_takes_them(tmp_path, text, single_cls=True) is not None
    found = read(tmp_path, text, single_cls=True)
    assert found is not None
    assert [box.class_id for box in found.boxes] == [0, 0]
    with pytest.raises(DataError, match=r"set data\.val\.combo\.single_cls if training"):
        read_yolo_boxes(tmp_path / "a.txt", 1)


def test_boxes_without_area_are_refused_though_training_takes_them(tmp_path: Path) -> None:
    for text in ("0 0.5 0.5 0 0.2", "1 0.1 0.1 0.1 0.2 0.1 0.4"):
        assert as_training_takes_them(tmp_path, text) is not None
        assert read(tmp_path, text) is None


def test_copies_and_polygons_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, f"{POLYGON}\n{POLYGON}\n{POLYGON} 0.1 0.2")
    assert found is not None
    assert (len(found.boxes), found.polygons, found.copies) == (2, 2, 1)


# --- COCO's categories -----------------------------------------------------------------------


def categories(*names: str, used: tuple[int, ...] = (), above: str = "") -> Categories:
    places = frozenset(used or range(len(names)))
    return Categories(Path("c.json"), names, (above,) * len(names), places)


@pytest.mark.parametrize(
    ("found", "class_names", "classes", "told"),
    [
        # By name, in whatever order, case and Unicode form.
        (
            categories("large", "middle", "small"),
            ("small", "middle", "large"),
            [2, 1, 0],
            "by name",
        ),
        (categories("small", "middle", "large"), ("small", "middle", "large"), [0, 1, 2], None),
        (categories(" Small", "e\u0301"), ("\u00e9", "small"), [1, 0], "by name"),
        (categories("dogs", "b", "a", used=(1, 2)), ("a", "b"), [1, 0], "by name"),
        (categories("x", "b", "c", used=(1,)), ("a", "b", "c"), [1], None),
        # By place, where the detector has no such names.
        (categories("x", "y"), ("0", "1"), [0, 1], "by their place"),
        (categories("x", "y"), (), [0, 1], None),
        (categories("x", "y", "z", used=(2,)), ("0", "1", "2"), [2], "by their place"),
        (categories("x", "y"), ("pill", "pill"), [0, 1], "by their place"),
        (categories("x"), ("pill",), [0], None),
        # Categories that no box has.
        (categories("pills", "pill", used=(1,), above="pills"), ("pill",), [0], None),
        (categories("pills", "x", used=(1,), above="pills"), ("pill",), [0], None),
        (categories("top", "x", "y", used=(2,), above="top"), ("0", "1"), [1], "by their place"),
        (categories("x", "y", "z", used=(0, 2)), ("0", "1"), [0, 1], "by their place"),
    ],
)
def test_categories_are_classes_by_name_else_by_place(
    found: Categories, class_names: tuple[str, ...], classes: list[int], told: str | None
) -> None:
    mapping, note = found.resolve(class_names, max(len(class_names), len(classes)))
    assert [mapping[place] for place in sorted(found.used)] == classes
    assert note is None if told is None else told in str(note)


def test_categories_that_fit_no_class_are_refused() -> None:
    with pytest.raises(DataError, match="'capsule'") as caught:
        categories("pill", "capsule").resolve(("pill", "tablet"), 2)
    assert "'pill', 'tablet'" in str(caught.value)
    with pytest.raises(DataError, match="more categories than the detector has classes"):
        categories("x", "y", "z").resolve(("0", "1"), 2)
    with pytest.raises(DataError, match="more categories than the detector has classes"):
        categories("x", "y", "z", "t", used=(0,)).resolve(("0", "1"), 2)


def coco(folder: Path, **changes: Any) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "categories": [{"id": 9, "name": "b", "supercategory": "x"}, {"id": 2, "name": "a"}],
        "annotations": [{"image_id": 1, "category_id": 9, "bbox": [1, 1, 2, 2]}],
        **changes,
    }
    (folder / "c.json").write_text(json.dumps(content))
    return folder / "c.json"


def test_coco_boxes_have_places_in_the_order_of_ids_and_count_once(tmp_path: Path) -> None:
    note = {"image_id": 1, "category_id": 9, "bbox": [1, 1, 2, 2]}
    path = coco(tmp_path, annotations=[{"id": 1, **note}, {"id": 2, **note}])
    images, found = read_coco_boxes(path)
    (image,) = images.values()
    assert [box.class_id for box in image.boxes] == [1]
    assert image.copies == 1
    assert found == Categories(path, ("a", "b"), ("", "x"), frozenset({1}))
    with pytest.raises(DataError, match="each id once"):
        read_coco_boxes(coco(tmp_path, categories=[{"id": 9}, {"id": 9}]))


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((40, 20), None),
        ((20, 10), None),
        ((41, 20), None),  # rounded, as resizing leaves it
        ((10, 20), "EXIF orientation"),
        ((30, 30), "it has 20 x 10"),
    ],
)
def test_labels_for_a_picture_of_another_shape_are_refused(
    tmp_path: Path, size: tuple[float, float], said: str | None
) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    sample = Sample("a.png", tmp_path, None, (), size)
    (batch,) = load_batches([sample], LetterboxTransform(32, 32), 1)
    assert (batch.unreadable == {}) == (said is None)
    assert said is None or said in batch.unreadable["a.png"]
