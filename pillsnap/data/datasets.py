"""Validation data on disk -> samples. Names and labels only: no image is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Combo, Config
from pillsnap.core.errors import DataError
from pillsnap.data.categories import Categories
from pillsnap.data.cocolabels import read_coco_boxes
from pillsnap.data.labels import Box, LabelFile, read_yolo_boxes
from pillsnap.data.listing import IMAGE_SUFFIXES, folder_rows, list_images, manifest_rows
from pillsnap.data.maps import read_class_map, without_code
from pillsnap.data.spellings import Spellings, compose


@dataclass(frozen=True, slots=True)
class Sample:
    """One validation image. A million of them are held in memory, so the folder is shared."""

    id: str
    """Unique in its stage and the same on every machine: the path within the data, as posix."""
    folder: Path
    """Where ids start."""
    label: int | None
    """Class index of a single photo; None for scenes."""
    boxes: tuple[Box, ...] | None = None
    """Ground truth of a scene; () is a scene without pills, None one without labels."""
    size: tuple[float, float] | None = None
    """Width and height that its labels are for, in pixels, where they say so."""

    @property
    def path(self) -> Path:
        return self.folder / self.id

    @property
    def classes(self) -> frozenset[int]:
        """Classes that are labelled in the image."""
        if self.label is not None:
            return frozenset((self.label,))
        return frozenset(box.class_id for box in self.boxes or ())


@dataclass
class Dataset:
    """The validation data of a stage.

    Attributes:
        samples: sorted by id.
        categories: what the class ids of boxes are places of; None where they are the detector's.
        left_out: by suffix, files that may be images and are not read.
        unlabelled: scenes without a label file, which count as scenes without pills.
        polygons: boxes that are given as polygons.
        copies: boxes that labels give twice, which count once.
        without_code: what is to be said of classes that no code leads to.
    """

    samples: list[Sample] = field(default_factory=list)
    categories: Categories | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    unlabelled: int = 0
    polygons: int = 0
    copies: int = 0
    without_code: str | None = None


@dataclass(frozen=True)
class Source:
    """Where the data of a task are.

    Attributes:
        stage: the task.
        key: of data.val and data.calibration.
        given: what the configuration says of validation data; None where it names none.
        read: those data, in any order; None where none are named.
    """

    stage: str
    key: str
    given: Callable[[Config], object]
    read: Callable[[Config], Dataset | None]


def read_dataset(config: Config, source: Source) -> Dataset:
    """All validation data of a task; raises DataError where there are none, or names and labels do
    not fit each other or the config."""
    key = f"data.val.{source.key}"
    found = source.read(config)
    if found is None:
        raise DataError(
            f"no validation data for {source.stage}",
            where=f"{config.source}: {key}",
            hint=f"set {key}, or leave the stage out",
        )
    if not found.samples:
        raise DataError(
            f"no validation image for {source.stage}",
            where=f"{config.source}: {key}",
            got=source.given(config),
            expected="files ending in " + ", ".join(IMAGE_SUFFIXES),
            hint=f"convert {listed(found.left_out)}" if found.left_out else None,
        )
    found.samples.sort(key=lambda sample: sample.id)
    for first, second in pairwise(found.samples):
        if first.id == second.id:
            raise DataError(
                "an image that is listed twice, by names that lead to one file",
                where=second.path,
                hint="leave it once in the manifest or label file",
            )
    return found


def listed(counts: Counter[str]) -> str:
    """Such as "3 .heic, 1 .avif", of the eight that are most."""
    shown = ", ".join(f"{count} {name}" for name, count in counts.most_common(8))
    return shown if len(counts) <= 8 else f"{shown}, {len(counts) - 8} kinds more"


def _singles(config: Config) -> Dataset | None:
    source = config.data.val.single
    if source is None:
        return None
    map_path = config.data.class_map
    if map_path is None:
        raise DataError(
            "single photos need a class map",
            where=f"{config.source}: data.class_map",
            expected="a JSON file {mapping_code: class index}",
        )
    count = config.classification.num_classes
    class_map = read_class_map(map_path, count)
    found, names = Dataset(without_code=without_code(class_map.values(), count)), Spellings()
    strangers: dict[str, str] = {}
    listing = not source.is_file()
    # A manifest's paths are relative to its folder.
    folder = source if listing else source.parent
    for name, class_name, place in (
        folder_rows(source, found.left_out) if listing else manifest_rows(source)
    ):
        label = class_map.get(compose(class_name))
        if label is None:
            strangers.setdefault(class_name, place)
        else:
            sample_id = name if listing else names.find(folder, name)
            found.samples.append(Sample(sample_id, folder, label))
    if strangers:
        shown = ", ".join(repr(name) for name in list(strangers)[:5])
        more = f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""
        raise DataError(
            "the data have classes that the class map lacks",
            where=next(iter(strangers.values())),
            got=shown + more,
            expected=f"one of the {len(class_map)} names in {map_path}",
            hint="add them to the class map, or take these images out of the validation data",
        )
    return found


def _scenes(config: Config) -> Dataset | None:
    combo = config.data.val.combo
    if combo is None:
        return None
    found = Dataset()
    image_ids = list(list_images(combo.images, found.left_out))
    if combo.labels is None:
        found.samples = [Sample(image_id, combo.images, None) for image_id in image_ids]
    elif combo.labels.is_dir():
        _add_yolo(found, image_ids, combo, combo.labels, config.detection.num_classes)
    else:
        _add_coco(found, image_ids, combo, combo.labels)
    return found


def _add_yolo(
    found: Dataset, image_ids: Iterable[str], combo: Combo, labels: Path, num_classes: int
) -> None:
    names = Spellings()
    for image_id in image_ids:
        label_id = Path(image_id).with_suffix(".txt").as_posix()
        path = labels / names.find(labels, label_id)
        if path.is_file():
            file = read_yolo_boxes(path, num_classes, single_cls=combo.single_cls)
        else:
            file = LabelFile()
            found.unlabelled += 1
        found.polygons += file.polygons
        found.copies += file.copies
        found.samples.append(Sample(image_id, combo.images, None, file.boxes))
    if found.samples and found.unlabelled == len(found.samples):
        raise DataError(
            "not one image has a label file",
            where=labels,
            expected=f"{Path(found.samples[0].id).with_suffix('.txt')} and the like",
            hint="mend data.val.combo.labels; null if no boxes are known",
        )


def _add_coco(found: Dataset, image_ids: Iterable[str], combo: Combo, labels: Path) -> None:
    images = combo.images
    entries, categories = read_coco_boxes(labels)
    names = Spellings()
    spelled = [(names.find(images, name), entry) for name, entry in entries.items()]
    known = {name for name, _ in spelled}
    for image_id in image_ids:
        if image_id not in known:
            foreign = next((name for name in known if "\\" in name), None)
            raise DataError(
                "an image without labels",
                where=images / image_id,
                got=foreign and f"a path of Windows that leads to none: {foreign}",
                expected=f"an entry of images with this file_name in {labels}",
                hint="add it (without annotations if there is no pill), or take the image out",
            )
    found.categories = None if combo.single_cls else categories
    # An image that is listed but not there becomes a sample too: reading it will name it.
    for image_id, entry in spelled:
        boxes = tuple(entry.boxes)
        if combo.single_cls:
            boxes = tuple(replace(box, class_id=0) for box in boxes)
        found.copies += entry.copies
        found.samples.append(Sample(image_id, images, None, boxes, entry.size))


SINGLES = Source(CLASSIFICATION, "single", lambda config: config.data.val.single, _singles)
SCENES = Source(DETECTION, "combo", lambda config: config.data.val.combo, _scenes)
