"""Validation data on disk -> samples. Names and labels only: no image is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from pillsnap.config.cells import CLASSIFICATION
from pillsnap.config.settings import Config
from pillsnap.core.errors import DataError
from pillsnap.data.categories import Categories
from pillsnap.data.labels import Box
from pillsnap.data.listing import IMAGE_SUFFIXES, folder_rows, manifest_rows
from pillsnap.data.maps import number_folders, read_class_map, without_code
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
        numbered: what is to be said of classes that no map numbers.
        class_names: of single photos, the name in the class map by index.
    """

    samples: list[Sample] = field(default_factory=list)
    categories: Categories | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    unlabelled: int = 0
    polygons: int = 0
    copies: int = 0
    without_code: str | None = None
    numbered: str | None = None
    class_names: dict[int, str] = field(default_factory=dict)


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
            got=getattr(given := source.given(config), "images", given),
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
    map_path, listing = config.data.class_map, not source.is_file()
    if map_path is None and not listing:
        raise DataError(
            "the photos of a manifest need a class map",
            where=f"{config.source}: data.class_map",
            expected="a JSON file {mapping_code: class index}",
        )
    count = config.classification.num_classes
    found, names = Dataset(), Spellings()
    if map_path is None:
        class_map = number_folders(source, count)
        found.numbered = (
            f"no class_map: class 0 to {count - 1:,} are the class folders in alphabetical order, "
            "as timm and torchvision number them"
        )
    else:
        class_map = read_class_map(map_path, count)
        found.without_code = without_code(class_map.values(), count)
    found.class_names = {index: name for name, index in class_map.items()}
    strangers: dict[str, str] = {}
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


SINGLES = Source(CLASSIFICATION, "single", lambda config: config.data.val.single, _singles)
