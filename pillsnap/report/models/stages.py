"""The part of the report that a stage has, and the top level repeats."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pillsnap.config.cells import MODES
from pillsnap.report.models.values import Part, one_of

Shape = Annotated[list[int], Field(min_length=4, max_length=4)]
Utc = Annotated[
    str,
    Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
]
ShortSha = Annotated[str, Field(pattern="^([0-9a-f]{7}|nogit)$")]


class Nms(Part):
    conf_threshold: float
    iou_threshold: float
    max_detections: int
    class_agnostic: bool


class Postprocess(Part):
    nms: Nms
    applied_in: Literal["python_common"]


class DataCounts(Part):
    """the validation data; null where they are not here"""

    images: int
    left_out: dict[str, int] = Field(
        description="by suffix, files that may be images and are not read"
    )
    without_label_file: int = Field(description="scenes that count as scenes without pills")
    polygons: int = Field(description="labels that became the boxes around them")
    labels_twice: int = Field(description="labels that count once")


class Deltas(Part):
    """mAP of the candidate minus that of the reference, of detection's worst cell"""

    map_0_5: float | None
    map_0_5_0_95: float | None


class Compare(Part):
    mode: Annotated[str, one_of(MODES)]
    sample_policy: str
    sample_count: int
    per_class_k: int
    min_classes: int
    max_total: int
    sampled_classes: int | None = Field(
        description="null where it was not found out: hard samples, or nothing measured"
    )
    sampled_images: int
    data: DataCounts | None
    mse_mean: float | None
    mse_p99: float | None
    top1_match_rate: float | None
    top1_mismatch_count: int | None
    failed: bool
    failure_reason: str | None
    deltas: Deltas
    notes: list[str]


class Repeated(Part):
    """What the top level repeats of a stage; null where that was not run."""

    backbone: str | None
    num_classes: int | None
    ckpt_path: str | None
    ckpt_entry: str | None = Field(
        description="keys that lead to the weights in the checkpoint; null where they stand alone"
    )
    onnx_path: str | None
    exported_at_utc: Utc | None
    git_sha: ShortSha | None
    input_shape: Shape | None
    opset: int | None
    ir_version: int | None = Field(description="of the file's format")
    min_onnxruntime: str | None = Field(
        description="first release of ONNX Runtime that reads opset and IR version; null where "
        "none is known to"
    )
    dynamic_axes: bool | None
    params_million: float | None
    providers: list[str] | None
    postprocess: Postprocess | None
    compare: Compare | None


class Stage(Repeated):
    backbone: str
    num_classes: int
    input_shape: Shape
    postprocess: Postprocess
    compare: Compare
