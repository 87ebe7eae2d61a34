"""Validation scenes of the detector and their boxes: folders of YOLO's, COCO files, data.yaml."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pillsnap.config.cells import DETECTION
from pillsnap.config.settings import Config
from pillsnap.config.validation import Combo
from pillsnap.core.errors import DataError
from pillsnap.core.fetching import fetched
from pillsnap.data.categories import Categories
from pillsnap.data.cocolabels import read_coco_boxes
from pillsnap.data.datasets import Dataset, Sample, Source
from pillsnap.data.datayaml import read_data_yaml
from pillsnap.data.labels import LabelFile, read_yolo_boxes
from pillsnap.data.listing import list_images
from pillsnap.data.spellings import Spellings


def _scenes(config: Config) -> Dataset | None:
    combo = config.data.val.combo
    if combo is None:
        return None
    found = Dataset()
    if combo.is_data_yaml:
        _add_data_yaml(found, combo, config.detection.num_classes)
        return found
    image_ids = list(list_images(combo.images, found.left_out))
    if combo.labels is None:
        found.samples = [Sample(image_id, combo.images, None) for image_id in image_ids]
    elif combo.labels.is_dir():
        pairs = ((name, Path(name).with_suffix(".txt").as_posix()) for name in image_ids)
        _add_yolo(found, pairs, combo, combo.images, combo.labels, config.detection.num_classes)
    else:
        _add_coco(found, image_ids, combo, combo.labels)
    return found


def _add_data_yaml(found: Dataset, combo: Combo, num_classes: int) -> None:
    data = read_data_yaml(combo.images, found.left_out)
    classes = len(data.names) or num_classes
    _add_yolo(found, data.pairs, combo, data.folder, data.root, classes)
    if data.names and not combo.single_cls:
        used = frozenset[int]().union(*(sample.classes for sample in found.samples))
        found.categories = Categories(combo.images, data.names, ("",) * classes, used, "names")


def _add_yolo(
    found: Dataset,
    pairs: Iterable[tuple[str, str]],
    combo: Combo,
    images: Path,
    labels: Path,
    num_classes: int,
) -> None:
    """Add images by their paths below `images`, with the boxes of the label files at the paths
    below `labels`."""
    names, pairs = Spellings(), list(pairs)
    files = fetched(labels / names.find(labels, label_id) for _, label_id in pairs)
    for (image_id, _), path in zip(pairs, files, strict=True):
        if path.is_file():
            file = read_yolo_boxes(path, num_classes, single_cls=combo.single_cls)
        else:
            file = LabelFile()
            found.unlabelled += 1
        found.polygons += file.polygons
        found.copies += file.copies
        found.samples.append(Sample(image_id, images, None, file.boxes))
    if found.samples and found.unlabelled == len(found.samples):
        raise DataError(
            "not one image has a label file",
            where=labels,
            expected=f"{pairs[-1][1]} and the like",
            hint="mend data.val.combo; give a folder of images alone if no boxes are known",
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


SCENES = Source(DETECTION, "combo", lambda config: config.data.val.combo, _scenes)
