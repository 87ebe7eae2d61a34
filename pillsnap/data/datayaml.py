"""ultralytics' data.yaml: the images of its validation split, their labels, the classes' names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from pillsnap.core.errors import DataError
from pillsnap.core.remote import RemotePath, split_root
from pillsnap.core.textfiles import read_text
from pillsnap.data.listing import IMAGE_SUFFIXES, list_images


@dataclass(frozen=True)
class DataYaml:
    """What a data.yaml says of validation.

    Attributes:
        names: of the classes, in order; () where it gives none.
        root: of all paths.
        folder: that all images lie below.
        pairs: path of each image below it, and of its label file below `root`.
    """

    names: tuple[str, ...]
    root: Path
    folder: Path
    pairs: list[tuple[str, str]]


def read_data_yaml(path: Path, left_out: Counter[str]) -> DataYaml:
    """Read a data.yaml as ultralytics does, but for downloads.

    `val` is a folder, a text file of images, or a list of both. It starts at `path`, which starts
    at the file's folder, at the working folder or its `datasets`: where all of `val` is found.

    Args:
        left_out: counts by suffix what might be images that are not read.

    Raises:
        DataError: the file or what it names cannot be read.
    """
    content = _mapping(path)
    root, beside = split_root(path.absolute().parent)
    images = [image for place in _places(path, content) for image in _images(place, left_out)]
    above = {image.rpartition("/")[0] for image in images} or {beside}
    folder = os.path.commonpath(above)
    pairs = [(os.path.relpath(image, folder), _label_of(image)) for image in images]
    return DataYaml(_names(path, content.get("names")), root, root / folder, pairs)


def _mapping(path: Path) -> Mapping[Any, Any]:
    try:
        content = yaml.safe_load(read_text(path, DataError))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError("this is not YAML", where=path, got=" ".join(str(error).split())) from None
    if not isinstance(content, dict):
        raise DataError("no data.yaml of ultralytics", where=path, expected="keys path, val, names")
    return content


def _places(path: Path, content: Mapping[Any, Any]) -> list[Path]:
    """The folders and text files that `val` names."""
    val = content.get("val", content.get("validation"))
    given = val if isinstance(val, list) else [val]
    root = content.get("path") or ""
    if not all(isinstance(each, str) and each for each in given) or not isinstance(root, str):
        raise DataError(
            "the data.yaml names no validation images",
            where=f"{path}: val",
            got=val,
            expected="a folder, a .txt file of images, or a list of both",
        )
    here = [] if isinstance(path, RemotePath) else [Path.cwd(), Path("datasets").absolute()]
    tried = [base / root for base in (path.absolute().parent, *here)]
    for base in dict.fromkeys(tried):
        # Roboflow writes ../valid/images where it means valid/images.
        for cut in ("", "../"):
            found = [(base / each.removeprefix(cut)).resolve() for each in given]
            if all(each.exists() for each in found):
                return found
    raise DataError(
        "the validation images of a data.yaml are not there",
        where=f"{path}: val",
        got=", ".join(given),
        expected="found below " + ", ".join(map(str, dict.fromkeys(tried))),
        hint="write `path` as it leads from the data.yaml's folder"
        if isinstance(path, RemotePath)
        else "write an absolute `path` into the data.yaml; nothing is downloaded",
    )


def _images(place: Path, left_out: Counter[str]) -> Iterator[str]:
    """Paths of the images in a folder or text file, below the root of all paths."""
    _, inside = split_root(place)
    if place.is_dir():
        yield from (f"{inside}/{name}" for name in list_images(place, left_out))
        return
    for line in read_text(place, DataError).splitlines():
        name = line.strip()
        if name.lower().endswith(IMAGE_SUFFIXES):
            below = [place.parent / name]
            if not isinstance(place, RemotePath):
                # ultralytics takes ./ from the list's folder, others from the working folder.
                below.append(Path(name).absolute())
                below = [each for each in below if each.exists()] or below
            yield os.path.normpath(split_root(below[0])[1])


def _label_of(image: str) -> str:
    """Where ultralytics looks for an image's label file, without the leading slash."""
    label = labels_beside(image) or image
    return f"{label.rpartition('.')[0]}.txt".lstrip("/")


def labels_beside(path: str) -> str | None:
    """The path with its last folder "images" as "labels", where ultralytics looks; None without."""
    before, found, after = path.rpartition("/images/")
    return f"{before}/labels/{after}" if found else None


def _names(path: Path, given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    names = dict(enumerate(given)) if isinstance(given, list) else given
    if not isinstance(names, dict) or {*names} != {*range(len(names))}:
        raise DataError(
            "the data.yaml has no name for each class",
            where=f"{path}: names",
            got=str(given)[:200],
            expected="a list, or a mapping from 0 on without gaps",
        )
    return tuple(str(names[index]) for index in range(len(names)))
