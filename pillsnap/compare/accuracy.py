"""Whether the trained model is as good as it is known to be. Pure, like the gate.

Both engines share the preprocessing, so a wrong mean falls on both: they agree, and are both wrong.
What tells it is the reference's own top-1 or mAP, held against a figure that is known of it.

A figure falls short where the one-sided 95 % upper bound of what the sample supports lies below it:
of top-1 the exact bound of a binomial proportion (Clopper & Pearson), of mAP the 95th percentile
over resampled images. A model that is exactly as good as expected thus falls short in one sample
of twenty: expect a little less than the best that was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pillsnap.compare.certify import upper_bound
from pillsnap.compare.figures import Metrics
from pillsnap.compare.figures.bootstrap import FEWEST_IMAGES
from pillsnap.compare.limits import exceeds
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config

# Training measures on a set of its own, timm and ultralytics in ways of their own: a figure that
# they recorded is held with this much to spare, one of config with nothing.
SPARE = 0.05

# Ultralytics validates at 0.001. Boxes that a higher threshold drops are lost to mAP.
HIGHEST_CONF = 0.01


@dataclass(frozen=True)
class Measure:
    """How it is told how good the models of a task are.

    Attributes:
        name: in words.
        figure: among the cell's metrics.
        setting: key of export.compare that says what is known.
        parts: what must fit the checkpoint, in words.
        upper: what the sample supports at most; None where it supports no bound.
        in_words: what was found, where there are labels.
        of_boxes: that NMS has kept, with the threshold that training has validated with or not.
    """

    name: str
    figure: str
    setting: str
    parts: str
    upper: Callable[[Metrics], float | None]
    in_words: Callable[[Metrics], str]
    of_boxes: bool = False


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


def expected_accuracy(
    config: Config, measure: Measure, recorded: object
) -> tuple[float, str] | None:
    """What is known of a model and where from: config's value, of which 0 is none, or else what its
    checkpoint has recorded, if that is a rate."""
    given: float | None = getattr(config.compare, measure.setting)
    if given is not None:
        return (given, "config") if given else None
    return (recorded, "training") if isinstance(recorded, float) and 0 < recorded <= 1 else None


def measure_accuracy(
    metrics: Metrics, measure: Measure, cell: Cell, config: Config, recorded: object
) -> Accuracy:
    """Hold a cell's reference against what is known of it."""
    found = metrics.get(measure.figure)
    known = expected_accuracy(config, measure, recorded)
    if found is None or known is None:
        return Accuracy(measure.figure, found)
    expected, source = known
    upper = measure.upper(metrics)
    unjudged = _unjudged(measure, cell, config, source, upper)
    short = None
    if unjudged is None and upper is not None:
        short = exceeds(expected - (SPARE if source == "training" else 0), upper)
    return Accuracy(measure.figure, found, upper, expected, source, short, unjudged)


def shortfall(accuracy: Accuracy, measure: Measure) -> str | None:
    """Why a cell shows nothing of the trained model; None where it is as good as is known."""
    if not accuracy.short:
        return None
    known = "config expects" if accuracy.source == "config" else "training measured"
    return (
        f"the reference's {measure.name} is {accuracy.found:.3g}, at most {accuracy.upper:.3g} by "
        f"this sample, and {known} {accuracy.expected:.3g}: do {measure.parts} and the checkpoint "
        "belong together? If it is right for these data, say so: "
        f"export.compare.{measure.setting}"
    )


def _upper_top1(metrics: Metrics) -> float | None:
    count = metrics["labelled_distinct_samples"]
    return upper_bound(round(metrics["reference_top1"] * count), count)


def _map_in_words(metrics: Metrics) -> str:
    loose, strict = (100 * metrics[f"reference_map_{at}"] for at in ("0_5", "0_5_0_95"))
    images = metrics["map_images"]
    return f"mAP@0.5 {loose:.1f} %, @0.5:0.95 {strict:.1f} % over {images:,} images"


def _unjudged(
    measure: Measure, cell: Cell, config: Config, source: str, upper: float | None
) -> str | None:
    """Why a figure is only shown."""
    if cell.hard:
        return "hard samples stand for no others"
    if source == "training" and cell.mode == "coverage":
        return "coverage counts all classes alike"
    if source == "training" and measure.of_boxes:
        threshold = config.nms.conf_threshold
        if threshold > HIGHEST_CONF:
            return f"at conf_threshold {threshold:g}, training's is 0.001"
    if upper is None:
        return f"fewer than {FEWEST_IMAGES} labelled images"
    return None


TOP1 = Measure(
    "top-1",
    "reference_top1",
    "expected_top1",
    "classification.mean, std, interpolation, crop, class_map",
    _upper_top1,
    lambda found: f"top-1 {100 * found['reference_top1']:.1f} % of {found['labelled_samples']:,}",
)
MAP = Measure(
    "mAP@0.5:0.95",
    "reference_map_0_5_0_95",
    "expected_map",
    "input_shape, labels, classes, conf_threshold",
    lambda found: found["reference_map_0_5_0_95_upper"],
    _map_in_words,
    of_boxes=True,
)
