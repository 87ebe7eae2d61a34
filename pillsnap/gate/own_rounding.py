"""Exactness of a cell: of its first images, and of those that differ by more than rounding there.

In an ill-conditioned model torch's own rounding runs over orders of magnitude from image to image.
So the image that differs most is measured too: either rounding is as large there, and explains what
differs less elsewhere, or the candidate is less exact than torch.

One run's rounding error on one image may be small by luck, and was picked for the candidate's being
large: torch's is that of several runs, with the image's values rounded up and down at random
(J. Vignes, Discrete stochastic arithmetic for validating results of numerical software, Numerical
Algorithms 37, 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from pillsnap.compare.drift import is_exact, judged_metrics, limit_of
from pillsnap.compare.exactness import PartError, exactness_metrics
from pillsnap.compare.figures import Metrics, take
from pillsnap.compare.outcome import Outcome
from pillsnap.compare.records import Columns
from pillsnap.compare.tasks import task_of
from pillsnap.compare.verdict import find_breaches
from pillsnap.config.cells import Cell
from pillsnap.config.figures import EXACTNESS, FIGURES
from pillsnap.config.tolerances import Tolerances
from pillsnap.core.errors import PillsnapError
from pillsnap.engines.protocol import Batch
from pillsnap.gate.run import GateRun

# Images at the most: each takes some passes of the reference, one of them in float64.
MOST = 16

# Of an image. Of two normal errors with as many samples of one, 8 times as much is 1 in 25,000.
RUNS = 8

_DIFFERENCES = {figure.name: figure for figure in FIGURES if figure.part}


def measure_exactness(
    run: GateRun,
    cell: Cell,
    outcome: Outcome,
    columns: Columns,
    metrics: Metrics,
    tolerances: Tolerances,
) -> Outcome:
    """Add a cell's exactness to its metrics.

    Args:
        outcome: of the cell's first shard.
        columns: the cell's records.
        tolerances: that the cell is held to.

    Returns:
        The outcome, with the errors of all images that were measured.
    """
    found = outcome.exactness or {"images": 0, "parts": []}
    errors = [PartError(**part) for part in found["parts"]]
    names = [each.name for each in task_of(cell.stage).figures if each.limited_by == EXACTNESS]

    def is_explained() -> bool:
        metrics.update(exactness_metrics(errors, names, metrics.get("per_stride", ())))
        breaches = {breach.figure for breach in find_breaches(metrics, tolerances)}
        return breaches.isdisjoint(_DIFFERENCES) or not is_exact(metrics)

    if is_explained() or cell.hard:
        return outcome
    rows: list[int] = []
    try:
        look = _Look(run, cell, outcome)
        while not is_explained() and len(rows) < MOST:
            row = look.worst(columns, metrics, tolerances, rows)
            if row is None:
                break
            errors += look.errors(take(columns, "id", [row])[0])
            rows.append(row)
    except PillsnapError:
        pass  # what cannot be measured is not explained
    run.sides.close()
    parts = [asdict(error) for error in errors]
    return replace(outcome, exactness={"images": found["images"] + len(rows), "parts": parts})


class _Look:
    """Both sides of a cell once more, an image at a time."""

    def __init__(self, run: GateRun, cell: Cell, outcome: Outcome) -> None:
        layout = outcome.candidate.get("layout")
        self._load = run.sides.load
        self._candidate = run.sides.candidate(cell)
        self._remembered = run.sides.reference_for(cell, layout)
        reference = self._remembered.reference
        self._recorder = task_of(cell.stage).recorder_for(reference, run.config.nms, layout)
        samples, _ = run.plan.in_classes(run.plan.samples(cell), cell.stage, reference.class_names)
        self._samples = {sample.id: sample for sample in samples}

    def worst(
        self, columns: Columns, metrics: Metrics, tolerances: Tolerances, but: Sequence[int]
    ) -> int | None:
        """The sample that is furthest beyond a limit, but for some; None where none is."""
        excess = np.zeros(metrics["samples"])
        for name, figure in _DIFFERENCES.items():
            column = self._recorder.drift.get(name, name)
            if column not in columns or getattr(tolerances, figure.limited_by) is not None:
                continue
            held = judged_metrics(figure, metrics)
            limits = [limit_of(figure, tolerances, values) for values in held]
            over = columns[column].reshape(len(excess), -1) / np.array(limits, np.float64)
            excess = np.fmax(excess, over.max(axis=1))
        excess[list(but)] = 0
        row = int(excess.argmax())
        return row if excess[row] > 1 else None

    def errors(self, sample: str) -> list[PartError]:
        """Of one sample; none where it has no outputs in float64."""
        transform = self._remembered.reference.transform
        (batch,) = self._load([self._samples[sample]], transform, 1)
        exact = self._remembered.exact_outputs(batch.array, batch.contents)
        if exact is None:
            raise PillsnapError("the reference has no outputs in float64", where=sample)
        ref = self._remembered.reference.engine.run(_rounded_anew(batch.array))
        cand = self._candidate.run(batch.array)
        return self._recorder.errors(exact.repeat(RUNS, 0), ref, cand.repeat(RUNS, 0))


def _rounded_anew(image: Batch) -> Batch:
    """An image [1,3,H,W] as it is, and RUNS - 1 times with values a rounding up or down."""
    rng = np.random.default_rng(0)
    ways = rng.integers(-1, 2, (RUNS - 1, *image.shape[1:])).astype(np.float32)
    return np.concatenate([image, image * (1 + ways * np.finfo(np.float32).eps)])
