"""Which images a data set has: names below folders, rows of manifests. No image is opened."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from pillsnap.core.errors import DataError
from pillsnap.core.placeholders import read_placeholder
from pillsnap.core.printable import printable
from pillsnap.core.remote import RemotePath
from pillsnap.core.textfiles import read_text
from pillsnap.core.urls import is_url

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib"),
    *(".webp", ".tif", ".tiff", ".gif"),
)
"""What images.decode_image reads. Names that start with a dot are no images."""

# What lies beside images and is meant to: labels, lists, caches, what systems leave.
_COMPANIONS = (
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html"),
    *(".cache", ".npy", ".py", ".sh", ".log", ".db", ".ini", ".lnk", ".zip", ".tar", ".gz"),
)


def list_images(folder: Path, left_out: Counter[str] | None = None) -> Iterator[str]:
    """Paths of all images below a folder, relative to it, as posix; raises DataError. `left_out`
    counts by suffix what might be images that pillsnap does not read."""
    if not folder.is_dir():
        standing = read_placeholder(folder)
        raise DataError(
            "there is no such folder of images",
            where=folder,
            got=standing.kind if standing else "a file" if folder.exists() else "nothing",
            hint=standing.hint
            if standing
            else "mend data.val or data.calibration in the config file",
        )
    names = folder.names() if isinstance(folder, RemotePath) else _walk(folder, "", frozenset())
    return _images(names, Counter() if left_out is None else left_out)


def folder_rows(folder: Path, left_out: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """Id, class name and place of each image in a folder of class folders; raises DataError."""
    for image_id in list_images(folder, left_out):
        class_name, slash, _ = image_id.partition("/")
        if not slash:
            raise DataError(
                "an image outside of the class folders",
                where=folder / image_id,
                hint="move it into the folder of its class, named by its mapping_code",
            )
        yield image_id, class_name, str(folder / class_name)


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders in the order in which timm and torchvision number classes.

    Raises:
        DataError: the folder cannot be read, or the two number them differently: one sorts 10
            before 2 and capitals before small letters, the other does not.
    """
    list_images(folder)
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    names = [name for name in names if not name.startswith(".")]
    if names != (natural := sorted(names, key=_natural)):
        first, second = next(pair for pair in zip(names, natural, strict=True) if len({*pair}) > 1)
        raise DataError(
            "timm and torchvision number these class folders differently",
            where=folder,
            got=f"{first} is before {second} for torchvision, behind it for timm",
            hint="give data.class_map, a JSON file {folder: class index}, as training had it",
        )
    return names


def _natural(name: str) -> list[str | int]:
    """timm's natural_key."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def manifest_rows(
    path: Path, wanted: Sequence[str] = ("image_path", "mapping_code")
) -> Iterator[tuple[str, str, str]]:
    """Id, last of the wanted columns and place of each row of a CSV manifest; raises DataError."""
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
            if is_url(cells[0]):
                raise DataError(
                    "a manifest names images by paths, not by URLs",
                    where=place,
                    got=cells[0],
                    expected="a path from the manifest's folder",
                    hint="put the manifest beside the images, and its URL into the config file",
                )
            image_id = PurePosixPath(cells[0]).as_posix()
            if image_id in seen:
                raise DataError(
                    f"an image that line {seen[image_id]} has already", where=place, got=image_id
                )
            seen[image_id] = reader.line_num
            yield image_id, cells[-1], place
    except csv.Error as problem:
        raise DataError("this is not CSV", where=f"{path}:{reader.line_num}", got=problem) from None


def _images(names: Iterable[str], left_out: Counter[str]) -> Iterator[str]:
    """Of the files of a folder those that are images."""
    for path in names:
        if path.startswith(".") or "/." in path:
            continue
        name = path.rpartition("/")[2].lower()
        if name.endswith(IMAGE_SUFFIXES):
            yield path
        elif not name.endswith(_COMPANIONS):
            left_out[printable(PurePosixPath(name).suffix, 12) or "no suffix"] += 1


def _walk(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Paths of all files below a folder.

    Links to folders are followed, as data sets are often made of them."""
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
        else:
            yield prefix + entry.name
