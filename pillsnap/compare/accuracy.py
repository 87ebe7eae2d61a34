"""Whether the trained model is as good as it is known to be. Pure, like the gate.

Both engines share the preprocessing, so a wrong mean falls on both: they agree, and are both wrong.
What tells it is the reference's own top-1 or mAP, held against a figure that is known of it.

A figure falls short where the one-sided 95 % upper bound of what the sample supports lies below it:
of top-1 the exact bound of a binomial proportion (Clopper & Pearson), of mAP the 95th percentile
over resampled images. A model that is exactly as good as expected thus falls short in one sample
of twenty: expect a little less than the best that was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from pillsnap.compare.certify import upper_bound
from pillsnap.compare.figures import Metrics
from pillsnap.compare.figures.bootstrap import FEWEST_IMAGES
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config

FIGURES = {
    "classification": ("top-1", "reference_top1"),
    "detection": ("mAP@0.5:0.95", "reference_map_0_5_0_95"),
}

# Training measures on a set of its own, timm and ultralytics in ways of their own: a figure that
# they recorded is held with this much to spare, one of config with nothing.
SPARE = 0.05

# Ultralytics validates at 0.001. Boxes that a higher threshold drops are lost to mAP.
HIGHEST_CONF = 0.01


@dataclass(frozen=True)
class Accuracy:
    """How good the reference is, beside what is known of it.

    Attributes:
        figure: name among the cell's metrics.
        found: its value; None without labels.
        upper: what the sample supports at most; None where it supports no bound.
        expected: what is known; None where nothing is.
        source: where from: config, or training.
        short: whether it falls short; None where that is not judged.
        unjudged: why not, in words.
    """

    figure: str
    found: float | None
    upper: float | None = None
    expected: float | None = None
    source: str | None = None
    short: bool | None = None
    unjudged: str | None = None


def expected_accuracy(config: Config, stage: str, recorded: object) -> tuple[float, str] | None:
    """What is known of a stage's model and where from; config's value wins, and 0 is none.

    Args:
        recorded: what its checkpoint says; anything but a rate is nothing.
    """
    compare = config.compare
    given = compare.expected_top1 if stage == "classification" else compare.expected_map
    if given is not None:
        return (given, "config") if given else None
    return (recorded, "training") if isinstance(recorded, float) and 0 < recorded <= 1 else None


def measure_accuracy(metrics: Metrics, cell: Cell, config: Config, recorded: object) -> Accuracy:
    """Hold a cell's reference against what is known of it."""
    figure = FIGURES[cell.stage][1]
    found = metrics.get(figure)
    known = expected_accuracy(config, cell.stage, recorded)
    if found is None or known is None:
        return Accuracy(figure, found)
    expected, source = known
    upper = _upper(metrics, cell.stage)
    unjudged = _unjudged(cell, config, source, upper)
    short = None
    if unjudged is None and upper is not None:
        short = upper < expected - (SPARE if source == "training" else 0)
    return Accuracy(figure, found, upper, expected, source, short, unjudged)


def shortfall(accuracy: Accuracy, stage: str) -> str | None:
    """Why a cell shows nothing of the trained model; None where it is as good as is known."""
    if not accuracy.short or None in (accuracy.found, accuracy.upper, accuracy.expected):
        return None
    name = FIGURES[stage][0]
    known = "config expects" if accuracy.source == "config" else "training measured"
    parts = {
        "classification": "classification.mean, std, interpolation, crop, class_map",
        "detection": "input_shape, labels, classes, conf_threshold",
    }[stage]
    return (
        f"the reference's {name} is {accuracy.found:.3g}, at most {accuracy.upper:.3g} by this "
        f"sample, and {known} {accuracy.expected:.3g}: do {parts} and the checkpoint belong "
        f"together? If it is right for these data, say so: export.compare.expected_"
        f"{'top1' if stage == 'classification' else 'map'}"
    )


def _upper(metrics: Metrics, stage: str) -> float | None:
    if stage == "detection":
        upper: float | None = metrics["reference_map_0_5_0_95_upper"]
        return upper
    count = metrics["labelled_samples"]
    return upper_bound(round(metrics["reference_top1"] * count), count)


def _unjudged(cell: Cell, config: Config, source: str, upper: float | None) -> str | None:
    """Why a figure is only shown."""
    if cell.hard:
        return "hard samples stand for no others"
    if source == "training" and cell.mode == "coverage":
        return "coverage counts all classes alike"
    if source == "training" and cell.stage == "detection":
        threshold = config.nms.conf_threshold
        if threshold > HIGHEST_CONF:
            return f"at conf_threshold {threshold:g}, training's is 0.001"
    if upper is None:
        return f"fewer than {FEWEST_IMAGES} labelled images"
    return None
