"""Images that INT8 is calibrated on. Names only: no image is opened."""

from __future__ import annotations

from pathlib import Path

from pillsnap.config.settings import Config
from pillsnap.core.errors import DataError
from pillsnap.data.datasets import Source
from pillsnap.data.listing import IMAGE_SUFFIXES, list_images, manifest_rows
from pillsnap.data.spellings import Spellings


def read_calibration(config: Config, source: Source) -> list[Path] | None:
    """Images to calibrate a task's model on, in the order of their paths; None where none are set.
    Raises DataError where they cannot be read, or there are none."""
    place: Path | None = getattr(config.data.calibration, source.key, None)
    if place is None:
        return None
    if place.is_file():
        rows, names = manifest_rows(place, ("image_path",)), Spellings()
        paths = [place.parent / names.find(place.parent, row[0]) for row in rows]
    else:
        paths = [place / image_id for image_id in list_images(place)]
    if not paths:
        raise DataError(
            f"no image to calibrate {source.stage} on",
            where=f"{config.source}: data.calibration.{source.key}",
            got=place,
            expected="files ending in " + ", ".join(IMAGE_SUFFIXES),
        )
    return sorted(paths)
