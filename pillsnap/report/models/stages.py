"""The part of the report that a stage has, and the top level repeats."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SkipValidation

from pillsnap.config.cells import MODES
from pillsnap.report.models.values import Flag, Integer, Number, Part, Text, Texts, one_of

Shape = Annotated[list[int], Field(min_length=4, max_length=4), SkipValidation]
Utc = Annotated[
    str,
    Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
    SkipValidation,
]
ShortSha = Annotated[str, Field(pattern="^([0-9a-f]{7}|nogit)$"), SkipValidation]


class Nms(Part):
    conf_threshold: Number
    iou_threshold: Number
    max_detections: Integer
    class_agnostic: Flag


class Postprocess(Part):
    nms: Nms
    applied_in: Annotated[Literal["python_common"], SkipValidation]


class DataCounts(Part):
    """the validation data; null where they are not here"""

    images: Integer
    left_out: Annotated[dict[str, int], SkipValidation] = Field(
        description="by suffix, files that may be images and are not read"
    )
    without_label_file: Integer = Field(description="scenes that count as scenes without pills")
    polygons: Integer = Field(description="labels that became the boxes around them")
    labels_twice: Integer = Field(description="labels that count once")


class Deltas(Part):
    """mAP of the candidate minus that of the reference, of detection's worst cell"""

    map_0_5: Number | None
    map_0_5_0_95: Number | None


class Compare(Part):
    mode: Annotated[Text, one_of(MODES)]
    sample_policy: Text
    sample_count: Integer
    per_class_k: Integer
    min_classes: Integer
    max_total: Integer
    sampled_classes: Integer | None = Field(
        description="null where it was not found out: hard samples, or nothing measured"
    )
    sampled_images: Integer
    data: DataCounts | None
    mse_mean: Number | None
    mse_p99: Number | None
    top1_match_rate: Number | None
    top1_mismatch_count: Integer | None
    failed: Flag
    failure_reason: Text | None
    deltas: Deltas
    notes: Texts


class Repeated(Part):
    """What the top level repeats of a stage; null where that was not run."""

    backbone: Text | None
    num_classes: Integer | None
    ckpt_path: Text | None
    ckpt_entry: Text | None = Field(
        description="keys that lead to the weights in the checkpoint; null where they stand alone"
    )
    onnx_path: Text | None
    exported_at_utc: Utc | None
    git_sha: ShortSha | None
    input_shape: Shape | None
    opset: Integer | None
    ir_version: Integer | None = Field(description="of the file's format")
    min_onnxruntime: Text | None = Field(
        description="first release of ONNX Runtime that reads opset and IR version; null where "
        "none is known to"
    )
    dynamic_axes: Flag | None
    params_million: Number | None
    providers: Texts | None
    postprocess: Postprocess | None
    compare: Compare | None


class Stage(Repeated):
    backbone: Text
    num_classes: Integer
    input_shape: Shape
    postprocess: Postprocess
    compare: Compare
