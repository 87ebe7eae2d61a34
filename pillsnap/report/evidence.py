"""What a page shows beside the report: the run's records, and the images that they are of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pillsnap.compare.records import Records
from pillsnap.compare.tasks import task_of
from pillsnap.config.load import load_config
from pillsnap.core.errors import PillsnapError
from pillsnap.core.hashes import sha256_file
from pillsnap.data.datasets import Dataset, read_dataset
from pillsnap.pipeline.images import decode_image, read_bytes
from pillsnap.pipeline.preprocess import Pixels

# What reading another thing as records raises.
NO_RECORDS = (PillsnapError, OSError, ValueError, KeyError, TypeError, IndexError)


@dataclass(frozen=True)
class Evidence:
    """The files of a run that are still there.

    Attributes:
        run_dir: the run's own folder; None where it is gone.
        dataset: the validation data of a stage; None where they are not here.
    """

    run_dir: Path | None
    dataset: Callable[[str], Dataset | None]

    def records(self, cell: Mapping[str, Any]) -> Records | None:
        """The records of a cell of the report; None where they are not there, or not whole."""
        if self.run_dir is None or not cell["samples"]:
            return None
        name = re.compile(rf"{re.escape(cell['id'])}(-s\d+of\d+)?\.records")
        try:
            found = [p for p in (self.run_dir / "records").iterdir() if name.fullmatch(p.name)]
            found.sort(key=lambda path: (len(path.name), path.name))
            records = Records([(path, sha256_file(path)) for path in found])
            whole = bool(found) and len(records["ref_finite"]) == cell["samples"]
        except NO_RECORDS:
            return None
        return records if whole else None

    def class_names(self, stage: str) -> Mapping[int, str]:
        """By index, as far as the data tell."""
        data = self.dataset(stage)
        return {} if data is None else data.class_names

    def images(self, stage: str, contents: Mapping[str, bytes]) -> dict[str, Pixels]:
        """Samples by id, those whose files still are what was compared, by their SHA-256."""
        data = self.dataset(stage)
        found = {}
        for sample in () if data is None else data.samples:
            if sample.id in contents:
                try:
                    content = read_bytes(sample.path)
                    if hashlib.sha256(content).digest() == contents[sample.id]:
                        found[sample.id] = decode_image(content, sample.path)
                except PillsnapError:
                    pass  # it was readable when it was compared, and is gone or damaged by now
        return found


def find_evidence(report: Mapping[str, Any], path: Path) -> Evidence:
    """What is left of the run of an earlier report: its folder is looked for where the report lies,
    its images by the configuration that it names."""
    origin = report["provenance"]
    config = None
    with suppress(PillsnapError):  # moved, or another machine's
        config = load_config(Path(origin["config"]))

    @cache
    def dataset(stage: str) -> Dataset | None:
        try:
            return None if config is None else read_dataset(config, task_of(stage).source)
        except PillsnapError:
            return None  # no data here, or others by now

    places = [parent / "runs" for parent in path.resolve().parents[:3]]
    if config is not None:
        places.insert(0, config.exp_dir / "runs")
    return Evidence(_folder(places, origin["run"]), dataset)


def _folder(places: Sequence[Path], name: str) -> Path | None:
    if name in ("", "..") or "/" in name or "\0" in name:
        return None
    return next((place / name for place in places if (place / name / "records").is_dir()), None)
