"""Validation data on disk -> samples. Names and labels only: no image is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pillsnap.config import Config
from pillsnap.errors import DataError
from pillsnap.labels import Box, read_coco_boxes, read_yolo_boxes
from pillsnap.listing import IMAGE_SUFFIXES, folder_rows, list_images, manifest_rows
from pillsnap.maps import read_class_map


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

    @property
    def path(self) -> Path:
        return self.folder / self.id

    @property
    def classes(self) -> frozenset[int]:
        """Classes that are labelled in the image."""
        if self.label is not None:
            return frozenset((self.label,))
        return frozenset(box.class_id for box in self.boxes or ())


def read_samples(config: Config, stage: str) -> list[Sample]:
    """All validation samples of a stage, "detection" or "classification", sorted by id.

    Raises:
        DataError: there are none, or names and labels do not fit each other or the config.
    """
    key = {"detection": "data.val.combo", "classification": "data.val.single"}[stage]
    samples = _scenes(config) if stage == "detection" else _singles(config)
    if samples is None:
        raise DataError(
            f"no validation data for {stage}",
            where=f"{config.source}: {key}",
            hint=f"set {key}, or leave the stage out",
        )
    if not samples:
        raise DataError(
            f"no validation image for {stage}",
            where=f"{config.source}: {key}",
            got=config.data.val.single if stage == "classification" else config.data.val.combo,
            expected="files ending in " + ", ".join(IMAGE_SUFFIXES),
        )
    return sorted(samples, key=lambda sample: sample.id)


def read_calibration(config: Config, stage: str) -> list[Path] | None:
    """Images to calibrate a stage on, in the order of their paths; None where none are set.

    Raises:
        DataError: they cannot be read, or there are none.
    """
    key = "combo" if stage == "detection" else "single"
    source: Path | None = getattr(config.data.calibration, key)
    if source is None:
        return None
    if source.is_file():
        paths = [source.parent / row[0] for row in manifest_rows(source, ("image_path",))]
    else:
        paths = [source / image_id for image_id in list_images(source)]
    if not paths:
        raise DataError(
            f"no image to calibrate {stage} on",
            where=f"{config.source}: data.calibration.{key}",
            got=source,
            expected="files ending in " + ", ".join(IMAGE_SUFFIXES),
        )
    return sorted(paths)


def _singles(config: Config) -> list[Sample] | None:
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
    class_map = read_class_map(map_path)
    count = config.classification.num_classes
    for name, index in class_map.items():
        if index >= count:
            raise DataError(
                "a class index beyond the classifier's head",
                where=f"{map_path}: {name}",
                got=index,
                expected=f"0 to {count - 1}, as classification.num_classes is {count}",
            )
    rows = manifest_rows(source) if source.is_file() else folder_rows(source)
    samples = []
    strangers: dict[str, str] = {}
    # A manifest's paths are relative to its folder.
    folder = source if source.is_dir() else source.parent
    for sample_id, class_name, place in rows:
        label = class_map.get(class_name)
        if label is None:
            strangers.setdefault(class_name, place)
        else:
            samples.append(Sample(sample_id, folder, label))
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
    return samples


def _scenes(config: Config) -> list[Sample] | None:
    combo = config.data.val.combo
    if combo is None:
        return None
    images, labels, count = combo.images, combo.labels, config.detection.num_classes
    image_ids = list_images(images)
    if labels is None:
        return [Sample(image_id, images, None) for image_id in image_ids]
    if labels.is_dir():
        return [
            Sample(
                image_id,
                images,
                None,
                _yolo_boxes((labels / image_id).with_suffix(".txt"), images / image_id, count),
            )
            for image_id in image_ids
        ]
    boxes = read_coco_boxes(labels, count)
    for image_id in image_ids:
        if image_id not in boxes:
            raise DataError(
                "an image without labels",
                where=images / image_id,
                expected=f"an entry of images with this file_name in {labels}",
                hint="add it (without annotations if there is no pill), or take the image out",
            )
    # An image that is listed but not there becomes a sample too: reading it will name it.
    return [Sample(image_id, images, None, found) for image_id, found in boxes.items()]


def _yolo_boxes(path: Path, image: Path, num_classes: int) -> tuple[Box, ...]:
    if not path.is_file():
        raise DataError(
            "an image without labels",
            where=image,
            expected=f"the label file {path}",
            hint="add it (empty if there is no pill), or take the image out",
        )
    return read_yolo_boxes(path, num_classes)
