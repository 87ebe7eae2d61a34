"""What the gate verifies: one record a task. `register` adds one, and `--stage` takes its name.

A record holds what the rooms below do for its task; the rooms above ask it, never its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pillsnap.compare import Recorder
from pillsnap.compare.accuracy import MAP, TOP1, Measure
from pillsnap.compare.best_boxes import BestBoxRecorder, BestQueryRecorder
from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.detection import DetectionRecorder, keep_indices
from pillsnap.compare.figures import Figures
from pillsnap.compare.figures.classification import classification_figures
from pillsnap.compare.figures.detection import detection_figures
from pillsnap.compare.final_boxes import FinalBoxRecorder
from pillsnap.compare.matching import box_distance, match_boxes
from pillsnap.compare.probabilities import ProbabilityRecorder
from pillsnap.compare.queries import QueryRecorder
from pillsnap.compare.records import Columns
from pillsnap.config.figures import Figure, figures_of
from pillsnap.config.settings import Config, Nms, Shape
from pillsnap.core.errors import ConfigError
from pillsnap.data.datasets import SINGLES, Sample, Source, read_dataset
from pillsnap.data.scenes import SCENES
from pillsnap.engines.protocol import Batch, Reference, Transform
from pillsnap.pipeline.softmax import softmax
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform

Finish = Callable[[Batch], Sequence[Any]]
MakeRecorder = Callable[[Reference, Nms], Recorder]


class Measuring(Protocol):
    """Makes figures of columns.

    Args:
        strides: of the reference; () where it has none.
        population: whether the samples stand for all of them; hard ones do not.
        bound: whether the reference's own accuracy is to be bounded, which may take seconds.
    """

    def __call__(
        self,
        columns: Columns,
        config: Config,
        strides: Sequence[int],
        *,
        population: bool,
        bound: bool,
    ) -> Figures: ...


@dataclass(frozen=True)
class Finishing:
    """What follows the network, for the diagnosis.

    Attributes:
        name: of the step.
        make: the network's answer to a result an image: probabilities [classes], or the boxes [k,6]
            that are left, in input pixels.
        distance: of two results of an image.
        unit: of that, as in "0.2 boxes an image".
    """

    name: str
    make: Callable[[Nms], Finish]
    distance: Callable[[Any, Any], float]
    unit: str


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: the stage of its cells, checkpoints and files.
        source: its validation data.
        figures: those that are shown in its rows, in their order.
        model: name of the architecture and number of classes, as configured.
        input_shape: NCHW, as configured.
        min_classes: how many classes mode coverage asks for.
        transform: kind of its preprocessing.
        scenes: its images are letterboxed, and its strides are known.
        output: the reference's answer, for messages.
        is_output: whether a shape can be that of such an answer.
        recorder: makes columns of both sides' outputs.
        recorders: the same where a file gives something else to compare, by what (see
            engines/layouts).
        measure: makes figures of those columns.
        labels: columns that say what is known of a sample.
        accuracy: how it is told how good its model is.
        hard: whether hard samples are told by the reference's most probable class.
        finishing: see there.
    """

    name: str
    source: Source
    figures: tuple[Figure, ...]
    model: Callable[[Config], tuple[str, int]]
    input_shape: Callable[[Config], Shape]
    min_classes: Callable[[Config], int]
    transform: type[Transform]
    scenes: bool
    output: str
    is_output: Callable[[tuple[int, ...]], bool]
    recorder: MakeRecorder
    measure: Measuring
    labels: tuple[str, ...]
    accuracy: Measure
    hard: bool
    finishing: Finishing
    recorders: Mapping[str, MakeRecorder] = field(default_factory=dict)

    def recorder_for(
        self, reference: Reference, nms: Nms, layout: Mapping[str, Any] | None
    ) -> Recorder:
        """The recorder of a candidate of that layout, as a report has it; None is the task's own
        form."""
        if layout is None or layout["compared"] not in self.recorders:
            return self.recorder(reference, nms)
        inside = nms if layout["nms"] is None else Nms(**layout["nms"])
        return self.recorders[layout["compared"]](reference, inside)


_tasks: dict[str, Task] = {}


def register(task: Task) -> None:
    """Add a task."""
    _tasks[task.name] = task


def task_names() -> tuple[str, ...]:
    """Names that `--stage` takes, in order of registration."""
    return tuple(_tasks)


def task_of(name: str) -> Task:
    """The task of that name; raises ConfigError with the choices."""
    if name not in _tasks:
        raise ConfigError(
            "there is no such task", where="--stage", got=name, expected=", ".join(task_names())
        )
    return _tasks[name]


def read_samples(config: Config, stage: str) -> list[Sample]:
    """The validation samples of a task; errors are read_dataset's."""
    return read_dataset(config, task_of(stage).source).samples


def _record_boxes(reference: Reference, nms: Nms) -> Recorder:
    of = DetectionRecorder if reference.strides else QueryRecorder
    return of(reference.strides, reference.transform.input_size, nms)


def _record_final_boxes(reference: Reference, nms: Nms) -> Recorder:
    return FinalBoxRecorder(reference.strides, reference.transform.input_size, nms)


def _record_one_to_one(reference: Reference, nms: Nms) -> Recorder:
    of = BestBoxRecorder if reference.strides else BestQueryRecorder
    return of(reference.strides, reference.transform.input_size, nms)


def _measure_boxes(
    columns: Columns, config: Config, strides: Sequence[int], *, population: bool, bound: bool
) -> Figures:
    most, seed = config.nms.max_detections, config.compare.seed
    return detection_figures(columns, strides, most, seed, bound_reference=bound)


def _keep_boxes(nms: Nms) -> Finish:
    return lambda answer: [rows[keep_indices(rows, nms), :6] for rows in answer]


def _measure_classes(
    columns: Columns, config: Config, strides: Sequence[int], *, population: bool, bound: bool
) -> Figures:
    return classification_figures(columns, config.classification.num_classes, population=population)


DETECTION_TASK = Task(
    name=SCENES.stage,
    source=SCENES,
    figures=figures_of(SCENES.stage),
    model=lambda config: (config.detection.network, config.detection.num_classes),
    input_shape=lambda config: config.export.input_shape.detection,
    # A detector may well know one class alone.
    min_classes=lambda config: min(config.compare.min_classes, config.detection.num_classes),
    transform=LetterboxTransform,
    scenes=True,
    output="[N,boxes,7]",
    is_output=lambda shape: len(shape) == 3 and shape[2] == 7,
    recorder=_record_boxes,
    measure=_measure_boxes,
    labels=("labelled", "truth_count", "truth"),
    accuracy=MAP,
    hard=False,
    finishing=Finishing(
        "nms",
        _keep_boxes,
        lambda a, b: box_distance(a, b, match_boxes(a, b)),
        "boxes an image",
    ),
    recorders={"boxes": _record_final_boxes, "one-to-one": _record_one_to_one},
)

CLASSIFICATION_TASK = Task(
    name=SINGLES.stage,
    source=SINGLES,
    figures=figures_of(SINGLES.stage),
    model=lambda config: (config.classification.network, config.classification.num_classes),
    input_shape=lambda config: config.export.input_shape.classification,
    min_classes=lambda config: config.compare.min_classes,
    transform=ClassifyTransform,
    scenes=False,
    output="[N,classes]",
    is_output=lambda shape: len(shape) == 2 and shape[1] > 1,
    recorder=lambda reference, nms: ClassificationRecorder(),
    measure=_measure_classes,
    labels=("label",),
    accuracy=TOP1,
    hard=True,
    finishing=Finishing(
        "softmax",
        lambda nms: lambda answer: list(softmax(answer)),
        lambda a, b: float(np.abs(a - b).sum()),
        "of probability an image",
    ),
    recorders={"probabilities": lambda reference, nms: ProbabilityRecorder()},
)

register(DETECTION_TASK)
register(CLASSIFICATION_TASK)
