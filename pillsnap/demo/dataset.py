"""Puts the demo in place: the checkpoints that come with the package, and validation images.

The images are drawn at first use, in a few seconds, and are the same for everyone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pillsnap.core.cpus import usable_cpus
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import write_atomic
from pillsnap.core.folders import appearing_folder, remove_abandoned_folders
from pillsnap.demo.drugs import DRUGS
from pillsnap.demo.labels import yolo_label
from pillsnap.demo.render import render_scene, render_single

ASSETS = Path(__file__).parent / "assets"
CHECKPOINTS = ("detection_best.pt", "classification_best.pt")
SINGLES_PER_DRUG = 20
SCENES = 150
CALIBRATION_SINGLES_PER_DRUG = 4
CALIBRATION_SCENES = 64


def install(exp_dir: Path) -> None:
    """Adds what is missing of `checkpoints/`, `demo_data/` and `demo_calibration/` to exp_dir;
    replaces nothing.

    Raises:
        PillsnapError: exp_dir cannot be written.
    """
    for name in CHECKPOINTS:
        target = exp_dir / "checkpoints" / name
        if not target.exists():
            write_atomic(target, (ASSETS / name).read_bytes())
    write_validation(exp_dir / "demo_data")
    write_calibration(exp_dir / "demo_calibration")


def write_calibration(root: Path) -> None:
    """Draws the images that INT8 is calibrated on, unless root exists: of the training split, so
    none is verified. root/single/*.png and root/combo/*.png.

    Raises:
        PillsnapError: root cannot be written.
    """
    if _is_drawn(root):
        return
    with _appearing_whole(root) as folder:
        for name in ("single", "combo"):
            (folder / name).mkdir()

        def draw_single(drug_index: int, number: int) -> None:
            photo = render_single(drug_index, number, split="train")
            path = folder / "single" / f"{DRUGS[drug_index].code}-{number}.png"
            photo.save(path, compress_level=1)

        def draw_scene(number: int) -> None:
            scene, _ = render_scene(number, split="train")
            scene.save(folder / "combo" / f"{number:04d}.png", compress_level=1)

        _draw(
            [partial(draw_scene, number) for number in range(CALIBRATION_SCENES)]
            + [
                partial(draw_single, index, number)
                for index in range(len(DRUGS))
                for number in range(CALIBRATION_SINGLES_PER_DRUG)
            ]
        )


def write_validation(
    root: Path, *, singles_per_drug: int = SINGLES_PER_DRUG, scenes: int = SCENES
) -> None:
    """Draws the validation images and maps below root, unless root exists.

    root/val/single/<mapping code>/<n>.png       one pill
    root/val/combo/images/<n>.png                none to five pills
    root/val/combo/labels/<n>.txt                their boxes in YOLO's format; empty for none
    root/class_map.json                          mapping code to class index
    root/edi_map.json                            mapping code to edi_code

    Raises:
        PillsnapError: root cannot be written.
    """
    if _is_drawn(root):
        return
    with _appearing_whole(root) as folder:
        singles, images, labels = (
            folder / "val" / "single",
            folder / "val" / "combo" / "images",
            folder / "val" / "combo" / "labels",
        )
        for made in (images, labels, *(singles / drug.code for drug in DRUGS)):
            made.mkdir(parents=True)

        def draw_singles(drug_index: int) -> None:
            for number in range(singles_per_drug):
                photo = render_single(drug_index, number, split="val")
                name = f"{number:03d}.png"
                photo.save(singles / DRUGS[drug_index].code / name, compress_level=1)

        def draw_scene(number: int) -> None:
            scene, boxes = render_scene(number, split="val")
            scene.save(images / f"{number:04d}.png", compress_level=1)
            text = yolo_label(boxes, scene.width, scene.height)
            (labels / f"{number:04d}.txt").write_text(text, encoding="ascii")

        _draw(
            [partial(draw_scene, number) for number in range(scenes)]
            + [partial(draw_singles, index) for index in range(len(DRUGS))]
        )
        _write_json(folder / "class_map.json", {d.code: i for i, d in enumerate(DRUGS)})
        _write_json(folder / "edi_map.json", {d.code: d.edi_code for d in DRUGS})


def _draw(jobs: Sequence[Callable[[], None]]) -> None:
    # Pillow and numpy release the interpreter's lock for most of the work.
    with ThreadPoolExecutor(min(4, usable_cpus())) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


def _is_drawn(root: Path) -> bool:
    """Whether root exists; what runs left that were killed while they drew it goes."""
    remove_abandoned_folders(root)
    return root.exists()


@contextmanager
def _appearing_whole(root: Path) -> Iterator[Path]:
    """A new folder beside root that takes its name at the end; of two runs at once the first one's
    stays."""
    try:
        with appearing_folder(root) as folder:
            yield folder
    except OSError as error:
        if not root.is_dir():  # not another run's, so a failure of our own
            raise PillsnapError(
                "the demo's images cannot be written",
                where=root,
                got=error.strerror,
                hint="free some space there, or change paths.exp_dir",
            ) from error


def _write_json(path: Path, content: dict[str, int] | dict[str, str]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="ascii")
