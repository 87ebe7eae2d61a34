"""Validation data on disk -> samples. Names and labels only: no image is opened."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pillsnap.config import Config
from pillsnap.errors import DataError
from pillsnap.labels import Box, read_coco_boxes, read_yolo_boxes
from pillsnap.maps import read_class_map
from pillsnap.textfiles import read_text

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Files with other suffixes, and names that start with a dot, are no images."""


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
        paths = [source.parent / row[0] for row in _manifest_rows(source, ("image_path",))]
    else:
        paths = [source / image_id for image_id in _image_ids(source)]
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
    rows = _manifest_rows(source) if source.is_file() else _folder_rows(source)
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


def _folder_rows(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Id, class name and place of each image in a folder of class folders."""
    for image_id in _image_ids(folder):
        class_name, slash, _ = image_id.partition("/")
        if not slash:
            raise DataError(
                "an image outside of the class folders",
                where=folder / image_id,
                hint="move it into the folder of its class, named by its mapping_code",
            )
        yield image_id, class_name, str(folder / class_name)


def _manifest_rows(
    path: Path, wanted: Sequence[str] = ("image_path", "mapping_code")
) -> Iterator[tuple[str, str, str]]:
    """Id, last of the wanted columns and place of each row of a CSV manifest."""
    reader = csv.reader(io.StringIO(read_text(path, DataError), newline=""), strict=True)
    seen: dict[str, int] = {}
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in wanted if name not in header]
        if missing:
            raise DataError(
                "the manifest lacks columns: " + ", ".join(missing),
                where=f"{path}:1",
                got=", ".join(header) or "an empty file",
                expected=",".join(wanted),
            )
        columns = [header.index(name) for name in wanted]
        for row in reader:
            if not row:
                continue
            place = f"{path}:{reader.line_num}"
            cells = [row[column].strip() if column < len(row) else "" for column in columns]
            if not all(cells):
                expected = "an " + " and a ".join(wanted)
                raise DataError("a broken row", where=place, got=",".join(row), expected=expected)
            image_id = PurePosixPath(cells[0]).as_posix()
            if image_id in seen:
                raise DataError(
                    f"an image that line {seen[image_id]} has already", where=place, got=image_id
                )
            seen[image_id] = reader.line_num
            yield image_id, cells[-1], place
    except csv.Error as problem:
        raise DataError("this is not CSV", where=f"{path}:{reader.line_num}", got=problem) from None


def _scenes(config: Config) -> list[Sample] | None:
    combo = config.data.val.combo
    if combo is None:
        return None
    images, labels, count = combo.images, combo.labels, config.detection.num_classes
    image_ids = _image_ids(images)
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


def _image_ids(folder: Path) -> Iterator[str]:
    """Paths of all images below a folder, relative to it, as posix."""
    if not folder.is_dir():
        raise DataError(
            "there is no such folder of images",
            where=folder,
            got="a file" if folder.exists() else "nothing",
            hint="mend data.val in the config file",
        )
    return _walk(folder, "", frozenset())


def _walk(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Links to folders are followed, as data sets are often made of them."""
    try:
        status = folder.stat()
        entries = list(os.scandir(folder))
    except OSError as problem:
        raise DataError("this folder cannot be read", where=folder, got=problem.strerror) from None
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise DataError("this link leads back into a folder that it is in", where=folder)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", above | {here})
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield prefix + entry.name
