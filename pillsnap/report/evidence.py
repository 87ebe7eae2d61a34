"""What a page shows beside the report: the run's records, and the images that they are of."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pillsnap.compare.records import Records
from pillsnap.compare.tasks import task_of
from pillsnap.config.load import load_config
from pillsnap.core.errors import PillsnapError
from pillsnap.core.hashes import sha256_file
from pillsnap.core.regularfiles import open_regular
from pillsnap.data.datasets import Dataset, read_dataset
from pillsnap.pipeline.images import decode_image
from pillsnap.pipeline.preprocess import Pixels
from pillsnap.report.reading import read_bounded

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
        if not cell["samples"]:
            return None
        try:
            found = self._shards(cell, "records", "records")
            records = Records([(path, sha256_file(path)) for path in found])
            whole = bool(found) and len(records["ref_finite"]) == cell["samples"]
        except NO_RECORDS:
            return None
        return records if whole else None

    def fastest(self, cell: Mapping[str, Any]) -> dict[str, float]:
        """The fastest tenth of the candidate's times in ms, `latency` of one image and
        `batch_latency`, on the kind of node that `performance` is of; without those that are not
        there."""
        kind = (cell["performance"] or {}).get("kind")
        single: list[float] = []
        runs: list[tuple[int, float]] = []
        try:
            for path in self._shards(cell, "outcomes", "json"):
                outcome = json.loads(read_bounded(path))
                if (outcome.get("host") or {}).get("kind") != kind:
                    continue
                timing = outcome["timing"]
                single += (timing.get("alone") or {}).get("seconds", ())
                runs += timing.get("runs", ())
            largest = max((images for images, _ in runs), default=0)
            batches = [seconds for images, seconds in runs if images == largest]
            times = {"latency": single, "batch_latency": batches}
            return {name: 1000 * float(np.quantile(t, 0.1)) for name, t in times.items() if t}
        except NO_RECORDS:
            return {}

    def _shards(self, cell: Mapping[str, Any], folder: str, suffix: str) -> list[Path]:
        """The files of a cell's shards, in their order; raises OSError without such a folder."""
        if self.run_dir is None:
            return []
        name = re.compile(rf"{re.escape(cell['id'])}(-s\d+of\d+)?\.{suffix}")
        found = [p for p in (self.run_dir / folder).iterdir() if name.fullmatch(p.name)]
        return sorted(found, key=lambda path: (len(path.name), path.name))

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
                    with open_regular(sample.path) as file:
                        content = file.read()
                    if hashlib.sha256(content).digest() == contents[sample.id]:
                        found[sample.id] = decode_image(content, sample.path)
                except (OSError, PillsnapError):
                    pass  # it was readable when it was compared, and is gone or damaged by now
        return found


def find_evidence(report: Mapping[str, Any], path: Path) -> Evidence:
    """What is left of the run of an earlier report: its folder is looked for where the report lies,
    its images by the configuration that it names."""
    origin = report["provenance"]
    config = None
    with suppress(PillsnapError, ValueError):  # moved, another machine's, or no path
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
    try:
        return next((place / name for place in places if (place / name / "records").is_dir()), None)
    except OSError:
        return None  # too long to be one
