"""config.yaml as frozen models of pydantic: the one truth for every setting.

Each attribute is documented in config.yaml, which lists them all with their defaults; from both
config.schema.json is made.
"""

from __future__ import annotations

import json
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from pydantic.json_schema import SkipJsonSchema

from pillsnap.config.cells import Mode, Provider
from pillsnap.config.fields import STRICT, Count
from pillsnap.config.runtime import Runtime
from pillsnap.config.tolerances import Profiles
from pillsnap.config.validation import Validation
from pillsnap.core.hashes import sha256_json

Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"]
CropMode = Literal["center", "squash", "border"]
GlobalPool = Literal["avg", "max", "avgmax", "catavgmax", "token", "map"]
EntryName = Annotated[str, Field(min_length=1)]
Head = Literal["one_to_many", "one_to_one"]
Builder = Annotated[str, Field(pattern=r"^[\w.]+:\w+$", examples=["package.module:function"])]
Exporter = Literal["torchscript", "dynamo"]
Int8Method = Literal["static", "dynamic", "auto", "nncf"]
CalibrationMethod = Literal["minmax", "entropy", "percentile"]
Part = Annotated[float, Field(ge=0.0, le=1.0)]
Deviation = Annotated[float, Field(ge=1e-6, le=1.0)]
Side = Annotated[int, Field(ge=1, le=16384)]
Shape = tuple[Side, Side, Side, Side]
BatchSize = Annotated[int, Field(ge=1, le=65536)]
Mib = Annotated[float, Field(ge=0.001, le=1e6)]
Megapixels = Annotated[float, Field(ge=0.001, le=1e5)]


@dataclass(frozen=True, config=STRICT)
class Paths:
    exp_dir: Path


@dataclass(frozen=True, config=STRICT)
class CalibrationData:
    """Images that INT8 is calibrated on; None: validation images that are not verified."""

    single: Path | None = None
    combo: Path | None = None


@dataclass(frozen=True, config=STRICT)
class Data:
    val: Validation = Validation()
    class_map: Path | None = None
    edi_map: Path | None = None
    calibration: CalibrationData = CalibrationData()
    remote_cache_gib: Annotated[float, Field(ge=0.001, le=1e6)] = 100.0


@dataclass(frozen=True, config=STRICT)
class Detection:
    model: str = "yolo11m"
    num_classes: Annotated[int, Field(ge=1, le=100_000)] = 1
    checkpoint: Path | None = None
    checkpoint_entry: EntryName | None = None
    head: Head = "one_to_many"
    builder: Builder | None = None

    @property
    def network(self) -> str:
        """What it is called in reports and metadata."""
        return self.builder or self.model


@dataclass(frozen=True, config=STRICT)
class Classification:
    backbone: str = "efficientnetv2_s"
    num_classes: Annotated[int, Field(ge=2, le=1_000_000)] = 5000
    mean: tuple[Part, Part, Part] | None = None
    std: tuple[Deviation, Deviation, Deviation] | None = None
    interpolation: Interpolation | None = None
    crop_pct: Annotated[float, Field(ge=0.01, le=2.0)] | None = None
    crop_mode: CropMode | None = None
    channels_last: bool = False
    checkpoint: Path | None = None
    checkpoint_entry: EntryName | None = None
    global_pool: GlobalPool | None = None
    builder: Builder | None = None

    @property
    def network(self) -> str:
        """What it is called in reports and metadata."""
        return self.builder or self.backbone


@dataclass(frozen=True, config=STRICT)
class InputShape:
    """NCHW. N is the example batch of the export; H and W are what every engine is fed."""

    detection: Shape = (1, 3, 640, 640)
    classification: Shape = (1, 3, 384, 384)


@dataclass(frozen=True, config=STRICT)
class Nms:
    conf_threshold: Part = 0.3
    iou_threshold: Part = 0.5
    max_detections: Annotated[int, Field(ge=1, le=100_000)] = 100
    class_agnostic: bool = False


@dataclass(frozen=True, config=STRICT)
class Postprocess:
    nms: Nms = Nms()


@dataclass(frozen=True, config=STRICT)
class Compare:
    mode: Mode = "smoke"
    sample_count: Count = 32
    per_class_k: Count = 1
    min_classes: Count = 1000
    min_classes_required: bool = False
    max_total: Count = 5000
    stratify_by: tuple[Literal["class"], ...] = ("class",)
    hardness_bins: tuple[Part, ...] = (0.0, 0.3, 0.6, 0.85, 1.0)
    hard_per_bin: Annotated[int, Field(ge=0)] = 0
    hard_pool: Count = 5000
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    batch_size: BatchSize = 16
    exactness_images: Annotated[int, Field(ge=1, le=1000)] = 4
    shard_size: Count = 32
    expected_top1: Part | None = None
    expected_map: Part | None = None
    reference_device: Literal["cpu", "cuda"] = "cpu"
    reference_cache_gib: Annotated[float, Field(ge=0.0, le=1e6)] = 20.0
    runs_kept: Count = 20
    tolerances: Profiles = Profiles()


@dataclass(frozen=True, config=STRICT)
class Quantize:
    int8_method: Int8Method = "static"
    calibration_images: Count = 100
    calibration_method: CalibrationMethod = "minmax"
    nodes_to_exclude: tuple[str, ...] | None = None
    fp16_nodes_to_exclude: tuple[str, ...] = ()


@dataclass(frozen=True, config=STRICT)
class Export:
    out_dir: Path | None = None
    reports_kept: Count = 1000
    opset: Annotated[int, Field(ge=13, le=22)] = 17
    dynamic_axes: bool = True
    exporter: Exporter = "torchscript"
    input_shape: InputShape = InputShape()
    postprocess: Postprocess = Postprocess()
    quantize: Quantize = Quantize()
    compare: Compare = Compare()


@dataclass(frozen=True, config=STRICT)
class PipelineSettings:
    mode: Literal["single", "combo"] = "single"
    engine: Literal["onnx", "openvino"] = "onnx"
    crop_margin: Annotated[float, Field(ge=0.0, le=2.0)] = 0.05


@dataclass(frozen=True, config=STRICT)
class Serve:
    provider: Provider = "auto"
    batch_size: BatchSize = 16
    max_images: Annotated[int, Field(ge=1, le=10_000)] = 32
    max_upload_mib: Mib = 64.0
    max_held_mib: Mib = 512.0
    max_megapixels: Megapixels = 50.0
    max_held_megapixels: Megapixels = 100.0
    body_timeout_s: Annotated[float, Field(ge=0.1, le=86_400)] = 60.0
    decode_timeout_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    max_waiting: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    load_timeout_s: Annotated[float, Field(ge=1.0, le=86_400.0)] = 300.0
    model_dirs: tuple[Path, ...] = ()
    allow_unverified: bool = False


@dataclass(frozen=True, config=STRICT)
class Config:
    """A whole, validated config.yaml."""

    paths: Paths
    demo: bool = False
    data: Data = Data()
    detection: Detection = Detection()
    classification: Classification = Classification()
    export: Export = Export()
    runtime: Runtime = Runtime()
    pipeline: PipelineSettings = PipelineSettings()
    serve: Serve = Serve()
    source: SkipJsonSchema[Path] = field(default=Path("config.yaml"), metadata={"internal": True})

    @property
    def exp_dir(self) -> Path:
        return self.paths.exp_dir

    @property
    def out_dir(self) -> Path:
        """Folder of exported models and reports."""
        return self.export.out_dir or self.exp_dir / "export"

    @property
    def compare(self) -> Compare:
        return self.export.compare

    @property
    def nms(self) -> Nms:
        return self.export.postprocess.nms

    @property
    def session_options(self) -> Runtime:
        """`runtime` with the folder of TensorRT's engines."""
        tensorrt = self.runtime.tensorrt
        path = tensorrt.trt_engine_cache_path or self.exp_dir / "tensorrt_cache"
        return replace(self.runtime, tensorrt=replace(tensorrt, trt_engine_cache_path=path))

    def input_shape(self, stage: str) -> Shape:
        shape: Shape = getattr(self.export.input_shape, stage)
        return shape


def config_sha256(config: Config) -> str:
    """SHA-256 of everything in a config that can change a result of the gate; how samples are cut
    into shards, what is remembered or kept, how models are served and where the project lies
    cannot."""
    compare = replace(config.compare, shard_size=1, reference_cache_gib=0.0, runs_kept=1)
    export = replace(config.export, compare=compare, reports_kept=1)
    data = replace(config.data, remote_cache_gib=1.0)
    judged = replace(config, data=data, export=export, serve=Serve())
    content = asdict(replace(judged, pipeline=PipelineSettings(), source=Path()))
    folder = config.source.absolute().parent

    def as_written(path: Path) -> str:
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)

    return sha256_json(json.loads(json.dumps(content, default=as_written)))
