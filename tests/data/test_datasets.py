"""Validation folders, manifests, maps and labels: names and labels, no image is opened."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pillsnap.config.settings import (
    CalibrationData,
    Classification,
    Config,
    Data,
    Detection,
    Paths,
)
from pillsnap.config.validation import Combo, Validation
from pillsnap.core.errors import DataError, ImageError
from pillsnap.data.calibration import read_calibration
from pillsnap.data.datasets import (
    SINGLES,
    Dataset,
    Sample,
    listed,
    read_dataset,
)
from pillsnap.data.labels import Box
from pillsnap.data.listing import IMAGE_SUFFIXES
from pillsnap.data.maps import read_class_map, read_edi_map, without_code
from pillsnap.data.scenes import SCENES
from pillsnap.pipeline import images


def touch(folder: Path, *names: str) -> None:
    """Empty files: whoever opens one as an image fails."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def singles(folder: Path, class_map: Any = None, *, single: Path | None = None) -> list[Sample]:
    map_path = folder / "class_map.json"
    map_path.write_text(json.dumps({"K-1": 0, "K-2": 3} if class_map is None else class_map))
    return read_dataset(
        Config(
            paths=Paths(folder),
            data=Data(Validation(single=single or folder / "val"), class_map=map_path),
            classification=Classification(num_classes=4),
        ),
        SINGLES,
    ).samples


def dataset(folder: Path) -> Dataset:
    (folder / "class_map.json").write_text(json.dumps({"K-1": 0, "K-2": 3}))
    data = Data(Validation(single=folder / "val"), class_map=folder / "class_map.json")
    return read_dataset(Config(paths=Paths(folder), data=data), SINGLES)


def scenes(folder: Path, labels: str | None = "labels", num_classes: int = 2) -> list[Sample]:
    return scene_data(folder, labels, Detection(num_classes=num_classes)).samples


def scene_data(folder: Path, labels: str | None, settings: Detection) -> Dataset:
    combo = Combo(folder / "images", None if labels is None else folder / labels)
    data = Data(Validation(combo=combo))
    return read_dataset(Config(paths=Paths(folder), data=data, detection=settings), SCENES)


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    return str(caught.value)


# --- single photos ---------------------------------------------------------------------------


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    touch(tmp_path / "val", "K-2/b.JPG", "K-2/a.png", "K-1/z.tiff", "K-1/more/deep.webp")
    touch(tmp_path / "val", "K-1/notes.txt", "readme.md", "K-9/Thumbs.db")  # no images
    touch(tmp_path / "val", "K-1/._z.jpg", ".hidden/x.jpg")  # names with a dot first
    samples = singles(tmp_path)
    assert samples == [
        Sample("K-1/more/deep.webp", tmp_path / "val", 0),
        Sample("K-1/z.tiff", tmp_path / "val", 0),
        Sample("K-2/a.png", tmp_path / "val", 3),
        Sample("K-2/b.JPG", tmp_path / "val", 3),
    ]


@pytest.mark.parametrize("suffix", [suffix[1:] for suffix in IMAGE_SUFFIXES] + ["TIFF", "Jfif"])
def test_every_image_suffix(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path / "val", f"K-1/a.{suffix}")
    assert [sample.id for sample in singles(tmp_path)] == [f"K-1/a.{suffix}"]


def test_every_suffix_is_of_a_format_that_is_decoded(tmp_path: Path) -> None:
    Image.init()
    formats = {Image.EXTENSION.get(suffix, "JPEG") for suffix in IMAGE_SUFFIXES}
    assert formats - {"MPO", "DIB"} <= set(images._FORMATS)
    for suffix in (".jpe", ".jfif", ".mpo", ".gif", ".apng", ".dib"):
        made = {".mpo": "MPO", ".gif": "GIF", ".apng": "PNG", ".dib": "BMP"}.get(suffix, "JPEG")
        Image.new("RGB", (12, 8)).save(tmp_path / f"a{suffix}", made)
        assert images.read_image(tmp_path / f"a{suffix}").shape == (8, 12, 3)


def test_files_that_may_be_images_and_are_not_read_are_counted(tmp_path: Path) -> None:
    touch(tmp_path / "val", "K-1/a.jpg", "K-1/b.HEIC", "K-2/c.heic", "K-2/d.avif", "K-2/e")
    touch(tmp_path / "val", "K-1/notes.txt", "K-1/Thumbs.db", "K-1/.DS_Store", "K-2/f.\x1b[2J")
    found = dataset(tmp_path)
    assert found.left_out.pop(".\\x1b[2j") == 1
    assert [sample.id for sample in found.samples] == ["K-1/a.jpg"]
    assert found.left_out == {".heic": 2, ".avif": 1, "no suffix": 1}
    (tmp_path / "val/K-1/a.jpg").unlink()
    assert "convert 2 .heic, 1 .avif" in refusal(lambda: singles(tmp_path))


def test_no_more_kinds_are_listed_than_are_read() -> None:
    counts = Counter({f".{number}": 20 - number for number in range(10)})
    assert listed(counts).startswith("20 .0, 19 .1, ")
    assert listed(counts).endswith("13 .7, 2 kinds more")


DECOMPOSED, COMPOSED = (unicodedata.normalize(form, "타이레놀é") for form in ("NFD", "NFC"))


@pytest.mark.parametrize("names", [(DECOMPOSED, COMPOSED), (COMPOSED, DECOMPOSED)])
def test_names_match_whatever_their_unicode_form(tmp_path: Path, names: tuple[str, str]) -> None:
    on_disk, written = names
    touch(tmp_path / "val", f"{on_disk}/{on_disk}.jpg")
    (sample,) = singles(tmp_path, {written: 2})
    assert sample == Sample(f"{on_disk}/{on_disk}.jpg", tmp_path / "val", 2)
    (tmp_path / "val/m.csv").write_text(
        f"image_path,mapping_code\n{written}/{written}.jpg,{on_disk}\n{written}.png,{written}\n"
    )
    samples = singles(tmp_path, {written: 2}, single=tmp_path / "val/m.csv")
    assert [each.path.is_file() for each in samples] == [
        each.id.endswith("jpg") for each in samples
    ]
    touch(tmp_path / "images", f"{on_disk}.jpg")
    touch(tmp_path / "labels", f"{written}.txt")
    assert scenes(tmp_path)[0].boxes == ()
    image = {"id": 1, "file_name": f"{written}.jpg", "width": 9, "height": 9}
    coco = {"images": [image], "annotations": [], "categories": []}
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    assert [each.id for each in scenes(tmp_path, "labels.json")] == [f"{on_disk}.jpg"]


def test_linked_class_folders_are_read_and_circles_named(tmp_path: Path) -> None:
    touch(tmp_path / "store", "a.jpg")
    touch(tmp_path / "val", "K-1/b.jpg")
    (tmp_path / "val/K-2").symlink_to(tmp_path / "store")
    assert [sample.id for sample in singles(tmp_path)] == ["K-1/b.jpg", "K-2/a.jpg"]
    (tmp_path / "val/K-1/again").symlink_to(tmp_path / "val")
    assert "leads back" in refusal(lambda: singles(tmp_path))


def test_a_class_that_the_map_lacks(tmp_path: Path) -> None:
    touch(tmp_path / "val", "K-1/a.jpg", "K-3/a.jpg", "K-3/b.jpg", "K-4/a.jpg")
    message = refusal(lambda: singles(tmp_path))
    assert str(tmp_path / "val/K-") in message
    assert "'K-3'" in message
    assert "'K-4'" in message
    assert "'K-1'" not in message
    assert f"one of the 2 names in {tmp_path / 'class_map.json'}" in message
    assert "add them to the class map, or take these images out" in message


def test_many_classes_that_the_map_lacks_are_counted(tmp_path: Path) -> None:
    touch(tmp_path / "val", *(f"X-{number}/a.jpg" for number in range(9)))
    assert "and 4 more" in refusal(lambda: singles(tmp_path))


def test_an_image_outside_of_the_class_folders(tmp_path: Path) -> None:
    touch(tmp_path / "val", "K-1/a.jpg", "b.jpg")
    assert str(tmp_path / "val/b.jpg") in refusal(lambda: singles(tmp_path))


def test_two_codes_of_one_index_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "val", "K-1/a.jpg", "K-2/a.jpg")
    message = refusal(lambda: singles(tmp_path, {"K-1": 2, "K-0": 1, "K-2": 2}))
    assert "class_map.json: K-2" in message
    assert "K-1 and K-2 have index 2" in message


def test_classes_without_a_code_are_told(tmp_path: Path) -> None:
    touch(tmp_path / "val", "K-1/a.jpg")
    assert "no code for 4,998 of 5,000 classes: 1, 2, 4, 5, 6, 7, 8, 9 and 4,990 more;" in str(
        dataset(tmp_path).without_code
    )
    assert without_code([1, 0, 2], 3) is None


def test_an_index_beyond_the_head(tmp_path: Path) -> None:
    touch(tmp_path / "val", "K-1/a.jpg")
    assert singles(tmp_path, {"K-1": 0, "K-5": 3})
    message = refusal(lambda: singles(tmp_path, {"K-1": 0, "K-5": 4}))
    assert "class_map.json: K-5" in message
    assert "got:      4" in message
    assert "classification.num_classes is 4" in message


def test_no_data_and_no_images(tmp_path: Path) -> None:
    bare = Config(paths=Paths(tmp_path))
    assert "no validation data for detection" in refusal(lambda: read_dataset(bare, SCENES))
    message = refusal(lambda: read_dataset(bare, SINGLES))
    assert "no validation data for classification" in message
    assert "data.val.single" in message
    assert "no such folder" in refusal(lambda: singles(tmp_path))
    lost = replace(bare, data=Data(calibration=CalibrationData(single=tmp_path / "lost")))
    assert "data.calibration" in refusal(lambda: read_calibration(lost, SINGLES))
    (tmp_path / "val/K-1").mkdir(parents=True)
    assert "no validation image for classification" in refusal(lambda: singles(tmp_path))
    (tmp_path / "images").mkdir()
    assert "no validation image for detection" in refusal(lambda: scenes(tmp_path, None))


def without_map(folder: Path, num_classes: int, single: str = "val") -> Dataset:
    data = Data(Validation(single=folder / single))
    settings = Classification(num_classes=num_classes)
    return read_dataset(Config(paths=Paths(folder), data=data, classification=settings), SINGLES)


def test_class_folders_are_classes_where_there_is_no_map(tmp_path: Path) -> None:
    touch(tmp_path / "val", "b/1.jpg", "a/2.jpg", f"{DECOMPOSED}/3.jpg", ".git/x.jpg")
    (tmp_path / "val/notes.txt").touch()
    found = without_map(tmp_path, 3)
    assert [(sample.id, sample.label) for sample in found.samples[:2]] == [
        ("a/2.jpg", 0),
        ("b/1.jpg", 1),
    ]
    assert found.samples[2].label == 2
    assert "class 0 to 2 are the class folders in alphabetical order" in (found.numbered or "")
    (tmp_path / "m.csv").write_text("image_path,mapping_code\na.jpg,a\n")
    assert "data.class_map" in refusal(lambda: without_map(tmp_path, 3, "m.csv"))


def test_class_folders_that_do_not_tell_the_order(tmp_path: Path) -> None:
    touch(tmp_path / "val", "K2/a.jpg", "K10/b.jpg", "K1/c.jpg")
    text = refusal(lambda: without_map(tmp_path, 3))
    assert "K10 is before K2 for torchvision, behind it for timm" in text
    assert "give data.class_map" in text
    touch(tmp_path / "other", "K02/a.jpg", "K10/b.jpg")
    text = refusal(lambda: without_map(tmp_path, 3, "other"))
    assert "2 class folders and no class map, config says 3 classes" in text
    assert "got: K02, K10" in " ".join(text.split()) and "data.class_map" in text


# --- manifests -------------------------------------------------------------------------------


def manifest(folder: Path, text: str | bytes) -> list[Sample]:
    path = folder / "sub" / "manifest.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return singles(folder, single=path)


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_manifest(tmp_path: Path, start: str, end: str) -> None:
    lines = [
        "weight, mapping_code ,image_path",
        "1,K-2,./x/b.jpg",
        "",
        '2,K-1,"a, ""1"".heic"',
        f"3,K-1,{tmp_path}/abs.png",
    ]
    samples = manifest(tmp_path, start + end.join(lines) + end)
    assert samples == [
        Sample(f"{tmp_path}/abs.png", tmp_path / "sub", 0),
        Sample('a, "1".heic', tmp_path / "sub", 0),
        Sample("x/b.jpg", tmp_path / "sub", 3),
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["lacks columns: image_path, mapping_code", "an empty file"]),
        ("image_path,label\na.jpg,K-1\n", ["lacks columns: mapping_code", "image_path, label"]),
        ("image_path;mapping_code\na.jpg;K-1\n", ["lacks columns: image_path, mapping_code"]),
        ("image_path,mapping_code\n", ["no validation image"]),
        ("image_path,mapping_code\na.jpg,\n", ["a broken row", "manifest.csv:2", "a.jpg,"]),
        ("image_path,mapping_code\na.jpg,K-1\nb.jpg\n", ["a broken row", "manifest.csv:3"]),
        ("image_path,mapping_code\na,K-1\n./a,K-2\n", ["line 2 has already", "manifest.csv:3"]),
        ("image_path,mapping_code\na.jpg,K-7\n", ["'K-7'", "manifest.csv:2"]),
        ('image_path,mapping_code\n"a.jpg"x,K-1\n', ["not CSV", "manifest.csv:2"]),
        (b"image_path,mapping_code\n\xff.jpg,K-1\n", ["not UTF-8", "manifest.csv:2"]),
    ],
)
def test_broken_manifests(tmp_path: Path, text: str | bytes, parts: list[str]) -> None:
    message = refusal(lambda: manifest(tmp_path, text))
    assert [part for part in parts if part not in message] == []


def test_paths_of_windows_in_a_manifest(tmp_path: Path) -> None:
    touch(tmp_path / "sub", f"x/{DECOMPOSED}.jpg", "a\\b.jpg", "a/b.jpg")
    text = f"image_path,mapping_code\n.\\x\\{COMPOSED}.jpg,K-1\na\\b.jpg,K-1\n"
    samples = manifest(tmp_path, text + "C:\\x\\c.jpg,K-2\n")
    # What has a backslash in its name is meant by it; what leads nowhere is named when it is read.
    assert [sample.id for sample in samples] == ["C:\\x\\c.jpg", "a\\b.jpg", f"x/{DECOMPOSED}.jpg"]
    with pytest.raises(ImageError, match=r"a backslash, as on Windows, .*(?s:.*)path with /"):
        images.read_image(samples[0].path)


def test_a_file_that_two_names_lead_to_is_no_two_images(tmp_path: Path) -> None:
    touch(tmp_path / "sub", "x/b.jpg")
    text = "image_path,mapping_code\nx\\b.jpg,K-1\nx/b.jpg,K-1\n"
    message = refusal(lambda: manifest(tmp_path, text))
    assert "listed twice" in message and str(tmp_path / "sub/x/b.jpg") in message


# --- maps ------------------------------------------------------------------------------------


def test_maps(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('\ufeff{"K-1": 0, "약": 7}', encoding="utf-8")
    assert read_class_map(path, 8) == {"K-1": 0, "약": 7}
    path.write_text('{"K-1": "0123"}')
    assert read_edi_map(path) == {"K-1": "0123"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "map.json:1:1"),
        ('{"a": 1,\n}', "map.json:2:1"),
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "this is not JSON"),
        ("[]", "this file holds no map"),
        ("{}", "this file holds no map"),
        ('{"a": true}', "map.json: a\n  got:      true"),
        ('{"a": -1}', "map.json: a\n  got:      -1"),
        ('{"a": 1.0}', "map.json: a\n  got:      1.0"),
        ('{"a": null}', "map.json: a\n  got:      null"),
        ('{"a": [1]}', "map.json: a\n  got:      [1]"),
    ],
)
def test_broken_maps(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(text)
    assert part in refusal(lambda: read_class_map(path, 8))
    assert str(path) in refusal(lambda: read_edi_map(path))


def test_names_of_a_map_are_composed_and_may_not_differ_in_their_form_alone(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps({DECOMPOSED: 0}))
    assert read_class_map(path, 8) == {COMPOSED: 0}
    path.write_text(json.dumps({DECOMPOSED: 0, COMPOSED: 0}))
    assert read_class_map(path, 8) == {COMPOSED: 0}
    path.write_text(json.dumps({DECOMPOSED: 0, COMPOSED: 1}))
    assert "Unicode form" in refusal(lambda: read_class_map(path, 8))


def test_missing_maps_and_numbers_for_codes(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    assert "cannot be read" in refusal(lambda: read_class_map(path, 8))
    path.write_text('{"K-1": 123}')
    assert "leading zeros" in refusal(lambda: read_edi_map(path))


# --- scenes ----------------------------------------------------------------------------------


def test_yolo_labels(tmp_path: Path) -> None:
    touch(tmp_path / "images", "b.jpg", "a.b.png", "sub/c.jpg")
    touch(tmp_path / "labels", "b.txt", "sub/c.txt", "classes.txt", "no_image.txt")
    (tmp_path / "labels/a.b.txt").write_text(
        "\ufeff0 0.5 0.25 0.1 0.2\r\n\r\n1.0 1.0021 -0.0021 1 1\r\n", encoding="utf-8"
    )
    samples = scenes(tmp_path)
    assert [sample.id for sample in samples] == ["a.b.png", "b.jpg", "sub/c.jpg"]
    assert [sample.label for sample in samples] == [None] * 3
    assert samples[0].path == tmp_path / "images/a.b.png"
    assert samples[0].boxes == (Box(0, 0.5, 0.25, 0.1, 0.2), Box(1, 1.0021, -0.0021, 1.0, 1.0))
    assert samples[1].boxes == ()


def test_scenes_without_labels(tmp_path: Path) -> None:
    touch(tmp_path / "images", "a.jpg")
    assert scenes(tmp_path, None) == [Sample("a.jpg", tmp_path / "images", None, None)]


def test_a_missing_label_file_is_a_scene_without_pills_that_is_counted(tmp_path: Path) -> None:
    touch(tmp_path / "images", "a.jpg", "b.jpg")
    touch(tmp_path / "labels", "a.txt")
    found = scene_data(tmp_path, "labels", Detection(num_classes=2))
    assert [sample.boxes for sample in found.samples] == [(), ()]
    assert found.unlabelled == 1


def test_a_folder_with_labels_of_other_images_is_no_set_of_backgrounds(tmp_path: Path) -> None:
    touch(tmp_path / "images", "sub/a.jpg")
    touch(tmp_path / "labels", "a.txt")
    message = refusal(lambda: scenes(tmp_path))
    assert "not one image has a label file" in message
    assert "expected: sub/a.txt" in message


def test_a_missing_labels_folder(tmp_path: Path) -> None:
    touch(tmp_path / "images", "a.jpg")
    message = refusal(lambda: scenes(tmp_path))
    assert str(tmp_path / "labels") in message
    assert "cannot be read" in message


@pytest.mark.parametrize(
    "line",
    [
        "0 0.5 0.5 0.1",
        "0 0.5 0.5 0.1 0.1 0.9",
        "x 0.5 0.5 0.1 0.1",
        "0 0.5 0.5 0.1 big",
        "0 0,5 0.5 0.1 0.1",
        "2 0.5 0.5 0.1 0.1",
        "-1 0.5 0.5 0.1 0.1",
        "0.5 0.5 0.5 0.1 0.1",
        "nan 0.5 0.5 0.1 0.1",
        "0 nan 0.5 0.1 0.1",
        "0 0.5 inf 0.1 0.1",
        "0 1.0101 0.5 0.1 0.1",
        "0 0.5 -0.0101 0.1 0.1",
        "0 0.1 0.1 0.3 0.1 0.3 0.4",
        "0 0.5 0.5 0 0.1",
        "0 0.5 0.5 0.1 -0.1",
        "0 320 240 64 64",
    ],
)
def test_broken_yolo_lines(tmp_path: Path, line: str) -> None:
    touch(tmp_path / "images", "a.jpg")
    touch(tmp_path / "labels", "a.txt")
    (tmp_path / "labels/a.txt").write_text(f"0 0.5 0.5 0.1 0.1\n  {line} \n")
    message = refusal(lambda: scenes(tmp_path))
    if len(line.split()) == 7:  # a polygon makes the box before it the broken one
        assert "a.txt:1\n" in message
        return
    assert f"where:    {tmp_path / 'labels/a.txt'}:2\n" in message
    assert f"got:      {line}\n" in message
    assert "class 0 to 1" in message


def test_label_files_that_are_no_text(tmp_path: Path) -> None:
    touch(tmp_path / "images", "a.jpg")
    touch(tmp_path / "labels", "a.txt")
    (tmp_path / "labels/a.txt").write_bytes(b"\xff\xfe0\x00")
    assert "not UTF-8" in refusal(lambda: scenes(tmp_path))


def coco(folder: Path, **changes: Any) -> list[Sample]:
    """A file of two images and three boxes, with some of its tables replaced."""
    touch(folder / "images", "a.jpg", "sub/b.jpg")
    tables = {
        "info": {},
        "images": [
            {"id": 7, "file_name": "./sub/b.jpg", "width": 200, "height": 100},
            {"id": 3, "file_name": "a.jpg", "width": 64, "height": 64},
        ],
        "categories": [{"id": 9, "name": "other"}, {"id": 1, "name": "pill"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [50, 20, 100, 60], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 200, 100.00001]},
        ],
        **changes,
    }
    (folder / "labels.json").write_text(json.dumps(tables))
    return scenes(folder, "labels.json")


def test_paths_of_windows_in_a_coco_file(tmp_path: Path) -> None:
    def entries(name: str) -> list[dict[str, Any]]:
        names = (name, "a.jpg")
        return [
            {"id": 7 - 4 * place, "file_name": file, "width": 200, "height": 100}
            for place, file in enumerate(names)
        ]

    samples = coco(tmp_path, images=entries("sub\\b.jpg"))
    assert [sample.id for sample in samples] == ["a.jpg", "sub/b.jpg"]
    assert len(samples[1].boxes or ()) == 2
    message = refusal(lambda: coco(tmp_path, images=entries("C:\\x\\b.jpg")))
    assert "an image without labels" in message and str(tmp_path / "images/sub/b.jpg") in message
    assert "got:      a path of Windows that leads to none: C:\\x\\b.jpg" in message
    both = [*entries("sub\\b.jpg"), {**entries("sub/b.jpg")[0], "id": 8}]
    assert "listed twice" in refusal(lambda: coco(tmp_path, images=both))


def test_coco_labels(tmp_path: Path) -> None:
    samples = coco(tmp_path)
    assert [sample.id for sample in samples] == ["a.jpg", "sub/b.jpg"]
    assert samples[0].boxes == ()
    assert samples[1].path == tmp_path / "images/sub/b.jpg"
    assert samples[1].boxes is not None
    assert samples[1].boxes[0] == Box(1, 0.5, 0.5, 0.5, 0.6)
    assert samples[1].boxes[1].class_id == 0
    assert samples[1].boxes[1].h == 1.0


def test_an_image_that_coco_lists_and_the_folder_lacks_is_kept_to_be_named(tmp_path: Path) -> None:
    coco(tmp_path)
    (tmp_path / "images/a.jpg").unlink()
    assert [sample.id for sample in scenes(tmp_path, "labels.json")] == ["a.jpg", "sub/b.jpg"]


def test_an_image_that_coco_does_not_list(tmp_path: Path) -> None:
    touch(tmp_path / "images", "c.jpg")
    message = refusal(lambda: coco(tmp_path))
    assert str(tmp_path / "images/c.jpg") in message
    assert str(tmp_path / "labels.json") in message


IMAGE = {"id": 3, "file_name": "a.jpg", "width": 64, "height": 64}
BOX = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2]}


@pytest.mark.parametrize(
    ("table", "entries", "part"),
    [
        ("images", None, "no list of images"),
        ("annotations", [1], "no list of annotations"),
        ("categories", {}, "no list of categories"),
        ("images", [{**IMAGE, "width": 0}], "width and height in pixels"),
        ("images", [{**IMAGE, "height": "64"}], "width and height in pixels"),
        ("images", [{**IMAGE, "height": 10**400}], "width and height in pixels"),
        ("images", [{**IMAGE, "file_name": ""}], "file_name"),
        ("images", [{**IMAGE, "id": "3"}], "a whole number as id"),
        ("images", [IMAGE, {**IMAGE, "id": 4}], "each file_name and each id once"),
        ("images", [IMAGE, {**IMAGE, "file_name": "b"}], "each file_name and each id once"),
        ("categories", [{"name": "pill"}], "a whole number as id"),
        ("annotations", [{**BOX, "image_id": 8}], "a known image_id"),
        ("annotations", [{**BOX, "image_id": [7]}], "a known image_id"),
        ("annotations", [{**BOX, "category_id": 2}], "a known category_id"),
        ("annotations", [{**BOX, "iscrowd": 1}], "no crowd regions"),
        ("annotations", [{**BOX, "bbox": [1, 1, 2]}], "bbox [x, y, width, height]"),
        ("annotations", [{**BOX, "bbox": None}], "bbox [x, y, width, height]"),
        ("annotations", [{**BOX, "bbox": [1, 1, 10**400, 2]}], "bbox [x, y, width, height]"),
        ("annotations", [{**BOX, "bbox": [1, 1, 0, 2]}], "bbox [x, y, width, height]"),
        ("annotations", [{**BOX, "bbox": [190, 1, 40, 2]}], "bbox [x, y, width, height]"),
        ("annotations", [{"image_id": 7, "category_id": 1}], "bbox [x, y, width, height]"),
    ],
)
def test_broken_coco_files(tmp_path: Path, table: str, entries: Any, part: str) -> None:
    message = refusal(lambda: coco(tmp_path, **{table: entries}))
    assert part in message
    assert str(tmp_path / "labels.json") in message
