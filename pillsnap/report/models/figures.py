"""The figures of a cell by task, and how exact it is.

What is judged is one line of config/figures.py, and stands here only where its bounds are special.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, create_model

from pillsnap.config.figures import FIGURES
from pillsnap.report.models.values import Count, Delta, Natural, Part, Rate, Size

ASKED = Field(description="How many coverage asks for; null in other modes")
AVAILABLE = Field(description="In all the validation data")
COVERED = Field(description="Among the samples of the cell")
MISSING = Field(description="Asked for and not covered; null in other modes")


def _optional(field: Any, default: int | None = None) -> Any:
    """The same of a key that may be left out, which is not null in its place."""
    return Field(
        default,
        description=field.description,
        json_schema_extra=lambda schema: schema.pop("default"),
    )


ROUNDING = Field(
    description="Root mean square of the reference's own rounding error, in the outputs' unit, of "
    "the part where it is largest. null where torch cannot be run in float64"
)

CLASS_NAME = Field(description="In the class map; null where there is none of that index here")


class ClassFlips(Part):
    class_index: Count = Field(description="The reference's")
    class_name: str | None = CLASS_NAME
    samples: Natural
    flips: Natural
    rate: Annotated[float, Field(gt=0, le=1)]


class BoundaryCase(Part):
    sample: str
    reference_margin: Annotated[float, Field(ge=0, le=1)] = Field(
        description="Top-1 minus top-2 probability"
    )
    reference_class: Count
    reference_class_name: str | None = CLASS_NAME
    candidate_class: Count
    candidate_class_name: str | None = CLASS_NAME
    prob_err: Annotated[float, Field(ge=0, le=1)]
    flipped: bool


class Figures(Part):
    samples: Count
    distinct_samples: Count = Field(
        description="Distinct images among them: files of the same bytes count once"
    )
    label_conflicts: Count = Field(description="Images whose copies are labelled in different ways")
    label_conflict_samples: list[list[str]] = Field(
        max_length=10, description="Of such an image, the id of the first sample of each way"
    )
    non_finite: Count = Field(description="Samples for which the candidate alone is not finite")
    precision_bits: Size = Field(
        description="Binary digits of the exact outputs that the candidate keeps, of the part that "
        "keeps fewest; float32 near 20, float16 near 10. null where torch cannot be run in float64"
    )


class ClassificationFigures(Figures):
    """classes_*: not of hard samples"""

    mse_max: Size
    mse_max_sample: str | None = Field(description="Id of the first sample that has mse_max")
    sse_mean: Size
    prob_err_max_sample: str | None = Field(
        description="Id of the first sample that has prob_err_max"
    )
    logit_err_max: Size
    kl_mean: float | None
    logits_rounding: Size = ROUNDING
    logit_snr_db: float | None = Field(description="null without noise")
    top1_match_rate: Rate
    top1_mismatch_count: Count
    top1_near_ties: Count = Field(description="Flips that do not count against the tolerance")
    top1_judged_flips: Count
    top1_judged_samples: Count
    top1_distinct_flips: Count = Field(description="Distinct images among top1_judged_flips")
    top1_distinct_samples: Count = Field(description="Distinct images among top1_judged_samples")
    top1_mismatch_rate: Rate = Field(description="top1_judged_flips of top1_judged_samples")
    worst_classes: list[ClassFlips] = Field(
        max_length=10, description="Classes that flip most, by count, then by rate"
    )
    boundary_cases: list[BoundaryCase] = Field(
        max_length=20,
        description="Flips of which the reference was surest, then others of which it was least "
        "sure",
    )
    labelled_samples: Count
    labelled_distinct_samples: Count = Field(description="Distinct images among labelled_samples")
    reference_top1: Rate = Field(description="Right among the labelled samples")
    candidate_top1: Rate = Field(description="Right among the labelled samples")
    reference_top1_by_chance: Rate = Field(
        description="How likely guessing among the classes reaches reference_top1 on as many "
        "distinct images; null without labels"
    )
    classes_asked: Natural | None = _optional(ASKED)
    classes_available: Count = _optional(AVAILABLE, 0)
    classes_covered: Count = _optional(COVERED, 0)
    classes_missing: Count | None = _optional(MISSING)


class StrideFigures(Part):
    stride: Natural
    raw_box_err_px: Size
    raw_score_err: Size
    box_exactness: Size
    score_exactness: Size
    class_flip_gap: Size
    box_rounding: Size = ROUNDING
    score_rounding: Size = ROUNDING
    reference_boxes: Count = Field(description="Boxes of the reference after NMS that come from it")


class DetectionFigures(Figures):
    per_stride: list[StrideFigures]
    box_rounding: Size = ROUNDING
    score_rounding: Size = ROUNDING
    class_flips: Count = Field(description="Anchors that change their class and are no near tie")
    box_class_flips: Count = Field(
        description="Boxes after NMS that both found and named differently"
    )
    reference_boxes: Count
    candidate_boxes: Count
    matched_boxes: Count
    reference_only: Count
    candidate_only: Count
    reference_only_rate: Rate = Field(description="Of the reference's boxes")
    candidate_only_rate: Rate = Field(description="Of the candidate's boxes")
    unmatched_rate: Rate = Field(description="Of the boxes of both")
    distinct_boxes: Count = Field(description="Boxes of both, of distinct images")
    distinct_unmatched: Count = Field(description="Of them, boxes that one alone has")
    images_at_max_detections: Count = Field(
        description="Images in which the NMS kept max_detections boxes: any beyond are not compared"
    )
    labels_above_max_detections: Count = Field(
        description="Labelled boxes beyond max_detections of an image: they cannot all be found"
    )
    iou_delta_p50: Rate
    iou_delta_p95: Rate
    iou_delta_max: Rate
    conf_delta_mean: Rate
    conf_delta_max: Rate
    reference_map_0_5: Rate
    candidate_map_0_5: Rate
    map_0_5_delta: Delta = Field(
        description="The candidate's minus the reference's, of which a loss is judged"
    )
    map_0_5_delta_upper: Rate = Field(
        description="One-sided 95 % bound of its loss, by resampling images; 0 of a sure gain"
    )
    reference_map_0_5_0_95: Rate
    reference_map_0_5_0_95_upper: Rate = Field(
        description="One-sided 95 % bound, by resampling images; null where nothing is known to "
        "hold it against, and of few images"
    )
    candidate_map_0_5_0_95: Rate
    map_0_5_0_95_delta: Delta = Field(
        description="The candidate's minus the reference's, of which a loss is judged"
    )
    map_0_5_0_95_delta_upper: Rate = Field(
        description="One-sided 95 % bound of its loss, by resampling images; 0 of a sure gain"
    )
    map_images: Count = Field(description="Labelled images")
    map_distinct_images: Count = Field(description="Distinct ones among them, which are resampled")
    map_resamples: Count
    map_reason: str | None = Field(description="Why mAP is null")
    classes_asked: Natural | None = ASKED
    classes_available: Count = AVAILABLE
    classes_covered: Count = COVERED
    classes_missing: Count | None = MISSING


def _with_judged(stage: str, base: type[Part]) -> type[Part]:
    """The model of a task's metrics: its own figures, and those that are judged."""
    judged: dict[str, Any] = {
        figure.name: (Size, Field(description=figure.meaning))
        for figure in FIGURES
        if figure.stage == stage and figure.name not in base.model_fields
    }
    return create_model(f"{stage}_metrics", __base__=base, __doc__=base.__doc__, **judged)


METRICS: dict[str, type[Part]] = {
    stage: _with_judged(stage, base)
    for stage, base in (
        ("classification", ClassificationFigures),
        ("detection", DetectionFigures),
    )
}


class PartError(Part):
    """Root mean squares over the images, in the part's own unit"""

    kind: str = Field(description="logits; box, in input pixels; or score")
    stride: Natural | None
    signal: Size = Field(
        description="Of the exact values; of scores, which are computed around a half, 0.5 at least"
    )
    reference: Size = Field(description="Of the reference's difference from them")
    candidate: Size = Field(description="Of the candidate's difference from them")
    unit: Size = Field(description="Half a unit in the last place: the least that counts as error")


class Exactness(Part):
    images: Natural = Field(description="How many it was measured on")
    parts: list[PartError]
