"""The figures of a comparison that are judged: each is one line here.

Tolerances in the configuration, its schema and the report's, the verdict, what a sample certifies
and the row of the table are all made from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Profile = Literal["strict", "practical", "fp16", "int8"]

PROFILES: tuple[str, ...] = get_args(Profile)


@dataclass(frozen=True)
class Certification:
    """How a sample bounds a figure, one-sided at 95 %: see compare/certify.py.

    Attributes:
        words: what is counted, as in "0 of 32 flipped".
        unit: of the trials, with a blank before it, as in "needs 299 boxes"; "" for samples.
        failures: metrics whose sum is the number of failures; () for a figure that is resampled
            over images, whose bound is <figure>_upper of map_distinct_images.
        trials: metrics whose sum is the number of trials.
    """

    words: str
    unit: str = ""
    failures: tuple[str, ...] = ()
    trials: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of a cell and its tolerance.

    Attributes:
        name: of the metric in the report.
        stage: the task that it is of.
        meaning: what it is, with its unit, for schemas and documentation.
        tolerance: name of the tolerance; figures may share one. "" is the figure's own name.
        label: in the row of the table; "" is not shown.
        most: the largest value that a tolerance may have; None is any.
        limits: the tolerance by profile; a profile that is missing does not judge it.
        noise: what two healthy float32 runs may differ by: beyond it a cell has drifted; inf where
            the figure says nothing of drift.
        part, roundings: of which kind of outputs the figure is a difference, "" for none; and how
            many times the reference's own rounding error there, a root mean square, the largest of
            all values of all images may be. Where that is more than `noise`, as in ill-conditioned
            models, it is what two runs may differ by.
        per_stride: judged for every stride by itself.
        loss: candidate minus reference, and only a loss is held against the tolerance: a gain
            beyond it is drift.
        certified: how the sample bounds it; None where it does not.
    """

    name: str
    stage: str
    meaning: str
    tolerance: str = ""
    label: str = ""
    most: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    noise: float = math.inf
    part: str = ""
    roundings: float = 0.0
    per_stride: bool = False
    loss: bool = False
    certified: Certification | None = None

    @property
    def limited_by(self) -> str:
        """Name of its tolerance in the configuration."""
        return self.tolerance or self.name

    def held(self, value: float) -> float:
        """What of a value is held against the tolerance."""
        return -value if self.loss else abs(value)


def _limits(*values: float | None) -> dict[str, float]:
    """By profile, in the order of PROFILES; None does not judge."""
    pairs = zip(PROFILES, values, strict=True)
    return {profile: value for profile, value in pairs if value is not None}


EXACTNESS = "exactness"
"""The tolerance of how exact a candidate is, in units of torch's own rounding error."""

EXACTNESS_LIMIT = 8.0
"""Above the largest of healthy exports: 2.9 on the CPU, and 5.6 on CUDA against torch on the CPU,
which sums in another order; a tensor in half precision has 13.8: see docs/zoo.md."""

# Boxes and scores of healthy exports were up to 354 off in eight images, probabilities 32 of the
# logits': docs/zoo.md.
_ROUNDINGS = 1000.0


def _exactness(kind: str, stage: str, what: str, label: str) -> Figure:
    """How exact a kind of outputs is, of the strides of a detector one by one."""
    return Figure(
        f"{kind}_exactness",
        stage,
        f"root mean square of the rounding error of {what}, against the reference in float64, over "
        "the reference's own in float32",
        tolerance=EXACTNESS,
        label=label,
        limits=_limits(EXACTNESS_LIMIT, None, None, None),
        noise=EXACTNESS_LIMIT,
        per_stride=stage == "detection",
    )


FIGURES: tuple[Figure, ...] = (
    Figure(
        "mse_mean",
        "classification",
        "mean over the samples of the mean squared error over the classes' probabilities",
        label="mse",
        limits=_limits(1e-6, 1e-4, 5e-4, None),
    ),
    Figure(
        "mse_p99",
        "classification",
        "its 99th percentile over the samples",
        label="p99",
        limits=_limits(5e-6, 5e-4, None, None),
    ),
    Figure(
        "top1_mismatch_rate",
        "classification",
        "part of the samples whose top-1 class differs, 0 to 1",
        label="flips",
        most=1.0,
        limits=_limits(0.001, 0.01, 0.02, 0.03),
        noise=0.0,
        certified=Certification(
            "flipped", failures=("top1_distinct_flips",), trials=("top1_distinct_samples",)
        ),
    ),
    _exactness("logits", "classification", "the logits", "exactness"),
    Figure(
        "prob_err_max",
        "classification",
        "largest absolute difference of a probability, 0 to 1",
        label="prob err",
        most=1.0,
        noise=1e-4,
        part="logits",
        roundings=100.0,
    ),
    _exactness("box", "detection", "the boxes of a stride", "exactness of boxes"),
    _exactness("score", "detection", "the scores of a stride", "of scores"),
    Figure(
        "raw_box_err_px",
        "detection",
        "largest difference of a box edge before NMS, in pixels of the input",
        label="box px",
        noise=0.05,
        part="box",
        roundings=_ROUNDINGS,
        per_stride=True,
    ),
    Figure(
        "raw_score_err",
        "detection",
        "largest difference of a score before NMS, 0 to 1",
        label="score",
        most=1.0,
        noise=1e-4,
        part="score",
        roundings=_ROUNDINGS,
        per_stride=True,
    ),
    Figure(
        "class_flip_gap",
        "detection",
        "largest gap of the reference's two most probable classes of an anchor that changes its "
        "class, 0 to 1",
        tolerance="raw_score_err",
        most=1.0,
        noise=1e-4,
        part="score",
        roundings=_ROUNDINGS,
        per_stride=True,
    ),
    Figure(
        "map_0_5_delta",
        "detection",
        "loss of mAP at IoU 0.5, 0 to 1",
        tolerance="map_delta",
        most=1.0,
        limits=_limits(0.01, 0.01, 0.01, 0.02),
        loss=True,
        certified=Certification("mAP@0.5 loss"),
    ),
    Figure(
        "map_0_5_0_95_delta",
        "detection",
        "loss of mAP at IoU 0.5:0.95, 0 to 1",
        tolerance="map_delta",
        label="mAP",
        most=1.0,
        limits=_limits(0.01, 0.01, 0.01, 0.02),
        loss=True,
        certified=Certification("mAP@0.5:0.95 loss"),
    ),
    Figure(
        "iou_delta_p95",
        "detection",
        "95th percentile of 1 - IoU of boxes that match, 0 to 1",
        label="IoU p95",
        most=1.0,
        limits=_limits(0.01, 0.01, 0.02, 0.08),
    ),
    Figure(
        "unmatched_rate",
        "detection",
        "part of the boxes that only one engine has, 0 to 1",
        label="unmatched",
        most=1.0,
        limits=_limits(0.01, 0.01, 0.01, 0.03),
        certified=Certification(
            "boxes unmatched",
            " boxes",
            failures=("distinct_unmatched",),
            trials=("distinct_boxes",),
        ),
    ),
)


def figures_of(stage: str) -> tuple[Figure, ...]:
    """The figures of a task, in their order."""
    return tuple(figure for figure in FIGURES if figure.stage == stage)


def find_figure(name: str) -> Figure:
    """The figure of that name; raises KeyError."""
    return {figure.name: figure for figure in FIGURES}[name]
