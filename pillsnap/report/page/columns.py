"""What a cell's records show over all of its samples: charts, and boxes by class and by size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.certify import upper_bound
from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.detection import DetectionRecorder
from pillsnap.compare.drift import limit_of
from pillsnap.compare.exactness import ROUNDING
from pillsnap.compare.figures.copies import number_images
from pillsnap.compare.matching import match_boxes
from pillsnap.compare.records import Records, unragged_rows
from pillsnap.compare.tasks import task_of
from pillsnap.config.tolerances import Tolerances
from pillsnap.report.page.charts import Chart, histogram, scatter

# By figure, the column that it is the largest value of.
_COLUMNS = {**ClassificationRecorder.drift, **DetectionRecorder.drift}

# Images whose boxes are matched again.
MOST_IMAGES = 2_000

# Sides of a square, in pixels of the image, below which COCO calls an object small, or medium.
SIZES = {"small (< 32² px)": 32.0, "medium (< 96² px)": 96.0, "large": np.inf}

# Classes that a table names: those with the most boxes without a partner.
MOST_CLASSES = 12


@dataclass(frozen=True)
class Part:
    """Boxes of a class or a size: how many, of both engines, and how many only one has.

    Attributes:
        upper: one-sided 95 % bound of their rate.
    """

    name: str
    boxes: int
    alone: int
    upper: float | None


def error_histograms(cell: Mapping[str, Any], records: Records) -> Iterator[Chart]:
    """Of every figure that is the largest of a difference by sample."""
    tolerances = Tolerances(**cell["tolerances"])
    for figure in task_of(cell["stage"]).figures:
        column = _COLUMNS.get(figure.name)
        if column is None or column not in records:
            continue
        values = records[column]
        own = cell["metrics"].get(f"{figure.part}{ROUNDING}") if figure.part else None
        limits = {
            "limit": ("tolerance", limit_of(figure, tolerances, cell["metrics"])),
            "rounding": (f"torch's own rounding of the {figure.part} outputs, rms", own),
        }
        wide = values.reshape(len(values), -1).max(axis=1)
        chart = histogram(f"Error by sample: {figure.label}", figure.label, wide, limits)
        if chart is not None:
            yield chart


def confidences(records: Records) -> Chart | None:
    """How sure both are of their most probable class; None where the records do not tell."""
    if "cand_probs" not in records:
        return None
    pairs = np.column_stack([records["ref_probs"][:, 0], records["cand_probs"][:, 0]])
    same = records["ref_top1"] == records["cand_top1"]
    finite = np.isfinite(pairs).all(axis=1)
    groups = {
        "point": ("same class", pairs[finite & same]),
        "other": ("another class", pairs[finite & ~same]),
    }
    return scatter("How sure both engines are", "top-1 probability", groups)


def boxes_of(records: Records) -> tuple[Chart, list[Part], list[Part]] | None:
    """How sure both are of their boxes, and which boxes only one has, by class and by size; None
    where there are no boxes. A copy of an image is no further one."""
    if "ref_boxes" not in records:
        return None
    distinct = np.unique(number_images(records), return_index=True)[1]
    chosen = distinct[:: -(-len(distinct) // MOST_IMAGES)].tolist()
    both: list[tuple[float, float]] = []
    lost: list[float] = []
    added: list[float] = []
    counted = []
    images = (unragged_rows(records, f"{side}_boxes", chosen) for side in ("ref", "cand"))
    for ref, cand in zip(*images, strict=True):
        if not (np.isfinite(ref).all() and np.isfinite(cand).all()):
            continue
        pairs = match_boxes(ref, cand).pairs
        both += list(zip(ref[pairs[:, 0], 4], cand[pairs[:, 1], 4], strict=True))
        for rows, paired, where in ((ref, pairs[:, 0], lost), (cand, pairs[:, 1], added)):
            alone = np.ones(len(rows), bool)
            alone[paired] = False
            where += rows[alone, 4].tolist()
            side = np.sqrt(np.prod(np.maximum(rows[:, 2:4] - rows[:, :2], 0), axis=1))
            counted.append(np.column_stack([rows[:, 5], side, alone]))
    groups = {
        "point": ("boxes of both", np.array(both).reshape(-1, 2)),
        "other": (
            "boxes of one alone",
            np.array([*((x, 0) for x in lost), *((0, y) for y in added)]).reshape(-1, 2),
        ),
    }
    chart = scatter("How sure both engines are", "score", groups)
    table = np.concatenate([np.empty((0, 3)), *counted])
    return chart, *_parts(table)


def _parts(table: NDArray[Any]) -> tuple[list[Part], list[Part]]:
    """By class and by size, of rows [N,3]: class, side in pixels, whether it is alone."""
    classes = [
        _part(f"class {int(index)}", table[table[:, 0] == index])
        for index in np.unique(table[:, 0])
    ]
    classes.sort(key=lambda part: (-part.alone, -part.boxes))
    sizes, below = [], 0.0
    for name, side in SIZES.items():
        sizes.append(_part(name, table[(table[:, 1] >= below) & (table[:, 1] < side)]))
        below = side
    return classes[:MOST_CLASSES], [part for part in sizes if part.boxes]


def _part(name: str, rows: NDArray[Any]) -> Part:
    alone = int(rows[:, 2].sum())
    return Part(name, len(rows), alone, upper_bound(alone, len(rows)))
