"""Broken validation data through whole runs: exit code 1, a message that names it, no traceback."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pillsnap.core.printable import printable
from pillsnap.data.labels import read_yolo_boxes
from pillsnap.gate.bundle import Bundle
from pillsnap.plugin.hooks import pytest_report_to_serializable
from pillsnap.report.show import read_report
from tests.plugin.project import Project, Workers


def remove_labels(project: Project) -> None:
    for path in (project.path / "combo/labels").iterdir():
        path.rename(path.with_name(f"other{path.name}"))


def break_label(project: Project) -> None:
    (project.path / "combo/labels/03.txt").write_text("0 0.5 0.5 0.2\n")


def label_of_another_class(project: Project) -> None:
    (project.path / "combo/labels/03.txt").write_text("7 0.5 0.5 0.2 0.2\n")


def add_unmapped_class(project: Project) -> None:
    shutil.copytree(project.path / "single/K-0", project.path / "single/K-77")


def drop_column(project: Project) -> None:
    (project.path / "manifest.csv").write_text("image_path,drug\nsingle/K-0/0.png,K-0\n")
    project.settings["data"]["val"]["single"] = "manifest.csv"


def break_class_map(project: Project) -> None:
    (project.path / "class_map.json").write_text("{")


def map_beyond_classes(project: Project) -> None:
    codes = {f"K-{index}": index + 3 for index in range(4)}
    (project.path / "class_map.json").write_text(json.dumps(codes))


def remove_images(project: Project) -> None:
    shutil.rmtree(project.path / "single")


def leave_out_data(project: Project) -> None:
    del project.settings["data"]["val"]["combo"]


@pytest.mark.parametrize(
    ("stage", "damage", "message"),
    [
        ("detection", remove_labels, "not one image has a label file"),
        ("detection", break_label, "0 0.5 0.5 0.2"),
        ("detection", label_of_another_class, "03.txt"),
        ("detection", leave_out_data, "no validation data for detection"),
        ("classification", add_unmapped_class, "K-77"),
        ("classification", drop_column, "mapping_code"),
        ("classification", break_class_map, "class_map.json"),
        ("classification", map_beyond_classes, "class_map.json"),
        ("classification", remove_images, "single"),
    ],
)
def test_broken_data_is_inconclusive_and_named(
    project: Project, stage: str, damage: Callable[[Project], None], message: str
) -> None:
    damage(project)
    project.write_config()
    result = project.run("-m", "smoke", "--stage", stage)
    assert result.ret == 1
    (cell,) = project.report()["cells"]
    assert cell["verdict"] == "inconclusive"
    assert message in cell["reason"]
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_what_is_left_out_or_taken_otherwise_is_said(project: Project) -> None:
    combo = project.path / "combo"
    (combo / "images/photo.heic").touch()
    (combo / "labels/03.txt").unlink()
    label = (combo / "labels/04.txt").read_text()
    (combo / "labels/04.txt").write_text(label * 2)
    (combo / "labels/05.txt").write_text("0 0.1 0.1 0.4 0.1 0.4 0.4\n")
    shutil.rmtree(project.path / "single/K-2")
    photo, exif = project.path / "single/K-0/0.png", Image.Exif()
    exif[0x0112] = 3
    with Image.open(photo) as opened:
        opened.load()
        opened.save(photo, exif=exif)
    codes = {"K-0": 0, "K-1": 1, "K-3": 3}
    (project.path / "class_map.json").write_text(json.dumps(codes))
    result = project.run("-m", "smoke")
    assert result.ret == 0
    stages = project.report()["stages"]
    compare = stages["detection"]["compare"]
    assert compare["data"] == {
        "images": 12,
        "left_out": {".heic": 1},
        "without_label_file": 1,
        "polygons": 1,
        "labels_twice": 1,
    }
    shown = " ".join(result.stdout.str().split())
    for said in (
        "detection: left out, since pillsnap reads no such images: 1 .heic",
        "scenes without a label file, which count as scenes without pills: 1 of 12",
        "labels that stand twice in their image and count once: 1",
        "polygons that became the boxes around them: 1",
    ):
        assert said in compare["notes"]
        assert f"note: {said}" in shown
    for said in (
        "class_map has no code for 1 of 4 classes: 2; infer and the service answer them with",
        "classification: photos with an EXIF orientation are turned upright, as in ultralytics;",
    ):
        assert said in " ".join(stages["classification"]["compare"]["notes"])
        assert f"note: {said}" in shown


def test_boxes_of_a_coco_file_are_of_the_detectors_classes(project: Project) -> None:
    """Roboflow's exports begin with a category that no box has, so places are no classes."""
    images, notes = [], []
    for number, path in enumerate(sorted((project.path / "combo/labels").iterdir())):
        file = {"file_name": f"{path.stem}.png", "width": 64, "height": 64}
        images.append({"id": number, **file})
        for box in read_yolo_boxes(path, 1).boxes:
            corner = (box.cx - box.w / 2, box.cy - box.h / 2, box.w, box.h)
            bbox = [64 * value for value in corner]
            notes.append({"image_id": number, "category_id": 1, "bbox": bbox})
    images[3]["width"] = 640
    categories = [{"id": 0, "name": "pills"}, {"id": 1, "name": "pill", "supercategory": "pills"}]
    content = {"images": images, "annotations": notes, "categories": categories}
    (project.path / "coco.json").write_text(json.dumps(content))
    project.settings["data"]["val"]["combo"]["labels"] = "coco.json"
    project.write_config()
    assert project.run("-m", "smoke", "--stage", "detection").ret == 1
    (cell,) = project.report()["cells"]
    assert list(cell["unreadable"]) == ["03.png"]
    assert "640 x 64 pixels, and it has 64 x 64" in cell["unreadable"]["03.png"]
    assert cell["metrics"]["reference_map_0_5"] > 0.9


def test_images_of_every_kind_are_read_or_named(project: Project, workers: Workers) -> None:
    folder = project.path / "single" / "K-0"
    source = Image.open(folder / "0.png")
    source.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    source.convert("RGBA").save(folder / "alpha.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    source.save(folder / "turned.jpg", exif=turned, quality=95)
    Image.new("RGB", (1, 1), (230, 26, 26)).save(folder / "one_pixel.png")
    Image.new("I;16", (20, 20), 40_000).save(project.path / "single" / "K-3" / "deep.png")
    spoil(folder / "empty.png", b"")
    spoil(folder / "text.jpg", b"these are words")
    spoil(folder / "cut.png", (folder / "0.png").read_bytes()[:50])
    (folder / "folder.png").mkdir()
    result = project.run("-m", "full", "--stage", "classification", *workers)
    assert result.ret == 1
    # The item that met them has failed, and not the cell alone.
    result.stdout.fnmatch_lines(["*images cannot be read:*"])
    (cell,) = project.report()["cells"]
    named = {"K-0/empty.png", "K-0/text.jpg", "K-0/cut.png"}
    assert set(cell["unreadable"]) == named
    assert cell["samples"] == 24 + 5
    assert cell["reason"] == f"3 of {24 + 8} images could not be read"
    for sample in named:
        assert str(project.path / "single" / sample) in cell["unreadable"][sample]


def spoil(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.fixture
def readable_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a plain locale Python writes names as they are, which pytester cannot read."""
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:backslashreplace")


def rename_in_legacy_bytes(project: Project) -> None:
    """As a zip made on Korean Windows is unpacked on Linux: names that are not UTF-8."""
    for photo in sorted((project.path / "single").rglob("*.png")):
        photo.rename(os.fsdecode(os.fsencode(photo.parent) + b"/\xbb\xe7" + photo.name.encode()))


@pytest.mark.usefixtures("readable_output")
@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_names_that_are_not_utf8_give_the_same_verdict(project: Project, workers: Workers) -> None:
    rename_in_legacy_bytes(project)
    options = ("--stage", "classification", "--save-reference", "bundle", *workers)
    result = project.run("-m", "smoke", "--junitxml=junit.xml", *options)
    assert result.ret == 0
    (cell,) = project.report()["cells"]
    assert cell["verdict"] == "equivalent"
    assert cell["samples"] == 12
    folder = project.path / "single"
    names = {os.fspath(path.relative_to(folder)) for path in folder.rglob("*.png")}
    by_text = {printable(name): name for name in names}
    assert by_text.keys() >= set(cell["worst_samples"])
    # Its own tool reads it.
    assert read_report(project.report_path) == project.report()
    saved = {
        sample.id for sample in Bundle(project.path / "bundle").samples("classification", "smoke")
    }
    assert saved >= {by_text[name] for name in cell["worst_samples"]}


@pytest.mark.usefixtures("readable_output")
@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_broken_photo_whose_name_is_not_utf8_is_named(project: Project, workers: Workers) -> None:
    rename_in_legacy_bytes(project)
    broken = sorted((project.path / "single/K-1").iterdir())[0]
    spoil(broken, b"")
    project.write_fault("def fault(stage, batch, output):\n    return output * np.nan")
    options = ("--stage", "classification", "--junitxml=junit.xml", *workers)
    result = project.run("-m", "full", *options)
    assert result.ret == 1
    output = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in output
    (cell,) = project.report()["cells"]
    assert list(cell["unreadable"]) == [printable(f"K-1/{broken.name}")]
    assert cell["verdict"] == "breach"


def test_any_text_of_an_items_report_passes_xdists_pipe() -> None:
    """Which takes UTF-8 alone; what an assertion or another library says may hold any name."""
    hook = pytest_report_to_serializable()
    next(hook)
    with pytest.raises(StopIteration) as ended:
        hook.send({"longrepr": ["caf\udce9"], "\udcff": ("a", 1)})
    assert ended.value.value == {"longrepr": ["caf\\udce9"], "\\udcff": ("a", 1)}
