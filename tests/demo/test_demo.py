"""The demo: its drawn photos, the folder of validation images, and the shipped checkpoints."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pillsnap.core.errors import PillsnapError
from pillsnap.data.labels import read_yolo_boxes
from pillsnap.demo import dataset
from pillsnap.demo.dataset import ASSETS, CHECKPOINTS, install, write_validation
from pillsnap.demo.drugs import DRUGS
from pillsnap.demo.pills import put_pill
from pillsnap.demo.render import Box, Split, render_crop, render_scene, render_single

SPLITS: tuple[Split, ...] = ("train", "val")
SCENES = 3
"""Of the small validation folder; the second of them is a scene without pills."""


def digest(image: Image.Image, boxes: list[Box] | None = None) -> str:
    """Of mode, size, pixels and boxes."""
    head = f"{image.mode} {image.size} {boxes}".encode()
    return hashlib.sha256(head + np.asarray(image).tobytes()).hexdigest()


def draw_some() -> dict[str, str]:
    """Digests of photos, crops and scenes of both splits, by what they are."""
    digests = {}
    for split, seed in itertools.product(SPLITS, range(3)):
        for drug in (0, 4, 18, len(DRUGS) - 1):  # plain, scored, of two colours, square
            digests[f"single {drug} {split} {seed}"] = digest(
                render_single(drug, seed, split=split)
            )
            digests[f"crop {drug} {split} {seed}"] = digest(render_crop(drug, seed, split=split))
        digests[f"scene {split} {seed}"] = digest(*render_scene(seed, split=split))
    return digests


def tree(root: Path) -> dict[str, bytes]:
    """Every file below root by its relative path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small validation folder; no test changes it."""
    made = tmp_path_factory.mktemp("demo") / "missing" / "demo_data"
    write_validation(made, singles_per_drug=1, scenes=SCENES)
    return made


# --- drawing ---------------------------------------------------------------------------------


def test_the_same_arguments_give_the_same_bytes() -> None:
    once = draw_some()
    assert draw_some() == once
    # A process of its own has neither this one's cached faces nor its order of drawing.
    code = "import json; from tests.demo.test_demo import draw_some; print(json.dumps(draw_some()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == once


def test_other_seeds_splits_and_drugs_give_other_bytes() -> None:
    drawn = draw_some()
    assert len(set(drawn.values())) == len(drawn)


def test_drugs_are_told_apart_by_code_and_look() -> None:
    assert len({drug.code for drug in DRUGS}) == len(DRUGS) == 24
    assert len({drug.edi_code for drug in DRUGS}) == len(DRUGS)
    looks = {(drug.shape, drug.colour, drug.scored, drug.imprint) for drug in DRUGS}
    assert len(looks) == len(DRUGS)


@pytest.mark.parametrize("drug_index", range(len(DRUGS)))
def test_photos_of_one_pill_have_the_documented_sizes(drug_index: int) -> None:
    for split in SPLITS:
        single = render_single(drug_index, 0, split=split)
        crop = render_crop(drug_index, 0, split=split)
        assert single.mode == crop.mode == "RGB"
        # Flat pictures would be as reproducible as good ones.
        assert min(np.asarray(single).std(), np.asarray(crop).std()) > 3
        assert 95 <= min(single.size) <= max(single.size) <= 203
        assert 40 <= max(crop.size) <= 310


@pytest.mark.parametrize("drug_index", range(len(DRUGS)))
@pytest.mark.parametrize("long_px", [30.0, 300.0])
@pytest.mark.parametrize("tilt_deg", [-27.0, 0.0, 12.0])
def test_a_box_fits_its_pill(drug_index: int, long_px: float, tilt_deg: float) -> None:
    # No shadow shows on black ground, so all that is not black is the pill.
    canvas = np.zeros((420, 440, 3), np.float32)
    rng = np.random.default_rng(0)
    box = put_pill(canvas, rng, drug_index, long_px, tilt_deg, (222.3, 205.6), (0.6, 0.8))
    rows, columns = np.nonzero(canvas.max(axis=2) > 40)
    seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert seen == pytest.approx(box, abs=1.5)


@pytest.mark.parametrize("split", SPLITS)
def test_boxes_of_scenes(split: Split) -> None:
    counts = set()
    sizes = set()
    for seed in range(60):
        scene, boxes = render_scene(seed, split=split)
        assert scene.mode == "RGB"
        counts.add(len(boxes))
        for drug_index, x1, y1, x2, y2 in boxes:
            assert drug_index in range(len(DRUGS))
            assert 0 <= x1 < x2 <= scene.width
            assert 0 <= y1 < y2 <= scene.height
            # COCO's three sizes, by area.
            side = ((x2 - x1) * (y2 - y1)) ** 0.5
            sizes.add("small" if side < 32 else "medium" if side < 96 else "large")
        for (_, *a), (_, *b) in itertools.combinations(boxes, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert counts == {0, 1, 2, 3, 4, 5}
    assert sizes == {"small", "medium", "large"}


# --- the folder of validation images ---------------------------------------------------------


def test_layout_of_the_validation_folder(root: Path) -> None:
    expected = {"class_map.json", "edi_map.json"}
    expected |= {f"val/single/{drug.code}/000.png" for drug in DRUGS}
    for number in range(SCENES):
        expected |= {f"val/combo/images/{number:04d}.png", f"val/combo/labels/{number:04d}.txt"}
    assert tree(root).keys() == expected
    class_map = json.loads((root / "class_map.json").read_text())
    assert class_map == {drug.code: index for index, drug in enumerate(DRUGS)}
    edi_map = json.loads((root / "edi_map.json").read_text())
    assert edi_map == {drug.code: drug.edi_code for drug in DRUGS}
    assert list(root.parent.iterdir()) == [root]


def test_validation_images_are_those_of_the_renderer(root: Path) -> None:
    for index, drug in enumerate(DRUGS):
        with Image.open(root / "val" / "single" / drug.code / "000.png") as photo:
            assert digest(photo) == digest(render_single(index, 0, split="val"))
    for number in range(SCENES):
        with Image.open(root / "val" / "combo" / "images" / f"{number:04d}.png") as scene:
            assert digest(scene) == digest(render_scene(number, split="val")[0])


def test_labels_are_read_back_to_the_same_boxes(root: Path) -> None:
    total = []
    for number in range(SCENES):
        scene, boxes = render_scene(number, split="val")
        path = root / "val" / "combo" / "labels" / f"{number:04d}.txt"
        found = read_yolo_boxes(path, num_classes=1).boxes
        assert len(found) == len(boxes)
        for label, (_, *box) in zip(found, boxes, strict=True):
            x, y = label.cx * scene.width, label.cy * scene.height
            half_x, half_y = label.w * scene.width / 2, label.h * scene.height / 2
            assert (x - half_x, y - half_y, x + half_x, y + half_y) == pytest.approx(box, abs=1)
        total.append(len(boxes))
    assert 0 in total and max(total) > 1


def test_a_second_call_changes_nothing(root: Path) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}

    before, content = state(), tree(root)
    write_validation(root, singles_per_drug=2, scenes=SCENES + 1)
    assert state() == before
    assert tree(root) == content
    assert list(root.parent.iterdir()) == [root]


def test_two_processes_at_once_leave_one_complete_folder(root: Path, tmp_path: Path) -> None:
    # The first scene waits for a word, so both processes have found no folder by then.
    code = """if True:
        import sys
        from pathlib import Path
        from pillsnap.demo import dataset

        draw = dataset.render_scene

        def draw_when_told(number, *, split):
            if number == 0:
                print("ready", flush=True)
                sys.stdin.readline()
            return draw(number, split=split)

        dataset.render_scene = draw_when_told
        dataset.write_validation(Path(sys.argv[1]), singles_per_drug=1, scenes=int(sys.argv[2]))
    """
    target = tmp_path / "demo_data"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(target), str(SCENES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        assert not target.exists()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            _, errors = process.communicate(timeout=60)
            assert (process.returncode, errors) == (0, "")
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert list(tmp_path.iterdir()) == [target]
    assert tree(target) == tree(root)


def test_what_a_killed_run_had_drawn_goes(root: Path) -> None:
    left = root.parent / ".demo_data.0123456789abcdef0123456789abcdef"
    (left / "val").mkdir(parents=True)
    write_validation(root, singles_per_drug=1, scenes=SCENES)  # which is there
    assert not left.exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dataset, "yolo_label", fail)
    with pytest.raises(PillsnapError, match="No space left on device"):
        write_validation(tmp_path / "demo_data", singles_per_drug=0, scenes=1)
    assert list(tmp_path.iterdir()) == []


# --- the checkpoints -------------------------------------------------------------------------


@pytest.mark.parametrize("kept", CHECKPOINTS)
def test_install_never_replaces_a_checkpoint(tmp_path: Path, kept: str) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / kept).write_bytes(b"trained here")
    # With images in place there is nothing to draw.
    drawn = ["demo_calibration", "demo_data"]
    for name in drawn:
        (tmp_path / name).mkdir()
    for _ in range(2):
        install(tmp_path)
        expected = {name: (ASSETS / name).read_bytes() for name in CHECKPOINTS}
        assert tree(tmp_path / "checkpoints") == expected | {kept: b"trained here"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", *drawn]
    assert all(list((tmp_path / name).iterdir()) == [] for name in drawn)


def test_what_calibrates_is_never_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "CALIBRATION_SINGLES_PER_DRUG", 1)
    monkeypatch.setattr(dataset, "CALIBRATION_SCENES", 2)
    for _ in range(2):  # the second time it is there
        dataset.write_calibration(tmp_path / "calibration")
    write_validation(tmp_path / "validation", singles_per_drug=1, scenes=2)

    def contents(folder: str) -> list[bytes]:
        return [path.read_bytes() for path in (tmp_path / folder).rglob("*.png")]

    assert len(list((tmp_path / "calibration" / "single").iterdir())) == len(DRUGS)
    assert len(list((tmp_path / "calibration" / "combo").iterdir())) == 2
    assert not set(contents("calibration")) & set(contents("validation"))


def members(checkpoint: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each member of the archive that torch wrote."""
    with zipfile.ZipFile(checkpoint) as archive:
        for name in archive.namelist():
            yield name, archive.read(name)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_shipped_checkpoints_tell_nothing_of_where_they_were_made(name: str) -> None:
    found = [
        (member, mark)
        for member, content in members(ASSETS / name)
        for mark in (b"/work", b"/tmp", b"/root", b"/home")
        if mark in member.encode() or mark in content
    ]
    assert found == []
    assert any(member.endswith("data.pkl") for member, _ in members(ASSETS / name))
