"""What travels between the driver and its workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pillsnap.config.cells import Shard
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.data.categories import Categories
from pillsnap.data.datasets import Sample
from pillsnap.export import Exported
from pillsnap.gate.cluster.parcels import Parcel
from pillsnap.gate.cluster.scheduling import Lane

T = TypeVar("T")

Fetch = Callable[[Any], Any]
"""What a handle stands for."""


@dataclass(frozen=True)
class Setup:
    """What every worker of a run is told once.

    Attributes:
        config, selection, threads, run_dir: the run's, on the driver.
        token: content of `<run_dir>/cluster`, by which a node knows the driver's disk.
        scratch: name of the folder for a node's own files, in its folder of temporary ones.
        plugins: pickled engines and tasks.
        checkpoints: of a stage, those where the configuration leads to.
    """

    config: Config
    selection: Selection
    threads: int
    run_dir: Path
    token: str
    scratch: str
    plugins: bytes
    checkpoints: Mapping[str, Parcel] = field(default_factory=dict)


@dataclass(frozen=True)
class Seat:
    """A worker's place: a node, what it is for, and whether others of the run compute there."""

    node: str
    lane: Lane
    contended: bool


@dataclass(frozen=True)
class Offer:
    """A model's file, and what has to be there to run it.

    Attributes:
        model: with the weights beside it.
        float32: the file that it was made from.
    """

    exported: Exported
    model: Parcel
    float32: Parcel | None


@dataclass(frozen=True)
class Job:
    """A shard, with all that the driver knows of its samples.

    Attributes:
        samples: those of the shard; of hard ones none, and an error where they could not be read.
        categories: Plan.categories.
        pool: handle of Plan.hard_pool, or of its error; None but for hard samples.
        offer: handle of an Offer, or of the error that there is in its place; None until a worker
            has asked.
    """

    shard: Shard
    samples: Sequence[Sample] | PillsnapError
    categories: Categories | None = None
    pool: Any = None
    offer: Any = None


@dataclass(frozen=True)
class Answer:
    """What a worker says of a job.

    Attributes:
        outcome: Outcome.as_json, paths as on the driver; None where the model is wanted first.
        records: the file that the outcome names.
        warnings: what was logged.
        scratch: the node's folder with files of this run, if it has one.
    """

    outcome: str | None
    records: bytes | None = None
    warnings: Sequence[str] = ()
    scratch: str | None = None


class ModelWanted(Exception):
    """A worker has no file of a cell yet."""


def given(value: T | PillsnapError) -> T:
    """The value; raises the error that stands in its place."""
    if isinstance(value, PillsnapError):
        raise value
    return value
