"""config.yaml as frozen dataclasses: the one truth for every setting.

Each attribute is documented in config.yaml, which lists them all with their defaults.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from pillsnap.config.fields import Bound
from pillsnap.config.runtime import Runtime
from pillsnap.core.hashes import sha256_json

Mode = Literal["smoke", "coverage", "full"]
Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"]
CropMode = Literal["center", "squash", "border"]
Shape = tuple[int, int, int, int]
Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Paths:
    exp_dir: Path


@dataclass(frozen=True)
class Combo:
    """Scenes for the detector."""

    images: Path
    labels: Path | None = None
    single_cls: bool = False


@dataclass(frozen=True)
class Validation:
    single: Path | None = None
    combo: Combo | None = None


@dataclass(frozen=True)
class CalibrationData:
    """Images that INT8 is calibrated on; None: validation images that are not verified."""

    single: Path | None = None
    combo: Path | None = None


@dataclass(frozen=True)
class Data:
    val: Validation = Validation()
    class_map: Path | None = None
    edi_map: Path | None = None
    calibration: CalibrationData = CalibrationData()


@dataclass(frozen=True)
class Detection:
    model: str = "yolo11m"
    num_classes: int = field(default=1, metadata=Bound(1, 100_000))


@dataclass(frozen=True)
class Classification:
    backbone: str = "efficientnetv2_s"
    num_classes: int = field(default=5000, metadata=Bound(2, 1_000_000))
    mean: Channels | None = field(default=None, metadata=Bound(0.0, 1.0))
    std: Channels | None = field(default=None, metadata=Bound(1e-6, 1.0))
    interpolation: Interpolation | None = None
    crop_pct: float | None = field(default=None, metadata=Bound(0.01, 2.0))
    crop_mode: CropMode | None = None
    channels_last: bool = False


@dataclass(frozen=True)
class InputShape:
    """NCHW. N is the example batch of the export; H and W are what every engine is fed."""

    detection: Shape = field(default=(1, 3, 640, 640), metadata=Bound(1, 16384))
    classification: Shape = field(default=(1, 3, 384, 384), metadata=Bound(1, 16384))


@dataclass(frozen=True)
class Nms:
    conf_threshold: float = field(default=0.3, metadata=Bound(0.0, 1.0))
    iou_threshold: float = field(default=0.5, metadata=Bound(0.0, 1.0))
    max_detections: int = field(default=100, metadata=Bound(1, 100_000))
    class_agnostic: bool = False


@dataclass(frozen=True)
class Postprocess:
    nms: Nms = Nms()


@dataclass(frozen=True)
class Tolerances:
    """Largest value allowed for each figure; None is not judged.

    Units: raw_box_err_px in input pixels, the rates and IoU deltas as fractions of 1.
    """

    mse_mean: float | None = field(default=None, metadata=Bound(0.0))
    mse_p99: float | None = field(default=None, metadata=Bound(0.0))
    top1_mismatch_rate: float | None = field(default=None, metadata=Bound(0.0, 1.0))
    prob_err_max: float | None = field(default=None, metadata=Bound(0.0, 1.0))
    raw_box_err_px: float | None = field(default=None, metadata=Bound(0.0))
    raw_score_err: float | None = field(default=None, metadata=Bound(0.0, 1.0))
    map_delta: float | None = field(default=0.01, metadata=Bound(0.0, 1.0))
    iou_delta_p95: float | None = field(default=0.01, metadata=Bound(0.0, 1.0))
    unmatched_rate: float | None = field(default=0.01, metadata=Bound(0.0, 1.0))


@dataclass(frozen=True)
class Profiles:
    """Tolerance profiles; `profile` names the one that fp32 cells are held to."""

    profile: Literal["strict", "practical", "fp16", "int8"] = "strict"
    strict: Tolerances = Tolerances(
        mse_mean=1e-6,
        mse_p99=5e-6,
        top1_mismatch_rate=0.001,
        prob_err_max=1e-4,
        raw_box_err_px=0.05,
        raw_score_err=1e-4,
    )
    practical: Tolerances = Tolerances(mse_mean=1e-4, mse_p99=5e-4, top1_mismatch_rate=0.01)
    fp16: Tolerances = Tolerances(mse_mean=5e-4, top1_mismatch_rate=0.02, iou_delta_p95=0.02)
    int8: Tolerances = Tolerances(
        top1_mismatch_rate=0.03, map_delta=0.02, iou_delta_p95=0.08, unmatched_rate=0.03
    )


@dataclass(frozen=True)
class Compare:
    mode: Mode = "smoke"
    sample_count: int = field(default=32, metadata=Bound(1))
    per_class_k: int = field(default=1, metadata=Bound(1))
    min_classes: int = field(default=1000, metadata=Bound(1))
    min_classes_required: bool = False
    max_total: int = field(default=5000, metadata=Bound(1))
    stratify_by: tuple[Literal["class"], ...] = ("class",)
    hardness_bins: tuple[float, ...] = field(
        default=(0.0, 0.3, 0.6, 0.85, 1.0), metadata=Bound(0.0, 1.0)
    )
    hard_per_bin: int = field(default=0, metadata=Bound(0))
    hard_pool: int = field(default=5000, metadata=Bound(1))
    seed: int = field(default=0, metadata=Bound(0, 2**63 - 1))
    batch_size: int = field(default=16, metadata=Bound(1, 65536))
    shard_size: int = field(default=32, metadata=Bound(1))
    expected_top1: float | None = field(default=None, metadata=Bound(0.0, 1.0))
    expected_map: float | None = field(default=None, metadata=Bound(0.0, 1.0))
    reference_device: Literal["cpu", "cuda"] = "cpu"
    reference_cache_gib: float = field(default=20.0, metadata=Bound(0.0, 1e6))
    runs_kept: int = field(default=20, metadata=Bound(1))
    tolerances: Profiles = Profiles()


@dataclass(frozen=True)
class Quantize:
    int8_method: Literal["static", "dynamic", "auto"] = "static"
    calibration_images: int = field(default=100, metadata=Bound(1))
    nodes_to_exclude: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Export:
    out_dir: Path | None = None
    opset: int = field(default=17, metadata=Bound(13, 22))
    dynamic_axes: bool = True
    exporter: Literal["torchscript", "dynamo"] = "torchscript"
    input_shape: InputShape = InputShape()
    postprocess: Postprocess = Postprocess()
    quantize: Quantize = Quantize()
    compare: Compare = Compare()


@dataclass(frozen=True)
class PipelineSettings:
    mode: Literal["single", "combo"] = "single"
    crop_margin: float = field(default=0.05, metadata=Bound(0.0, 2.0))


@dataclass(frozen=True)
class Serve:
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    batch_size: int = field(default=16, metadata=Bound(1, 65536))
    max_images: int = field(default=32, metadata=Bound(1, 10_000))
    max_upload_mib: float = field(default=64.0, metadata=Bound(0.001, 1e6))
    max_held_mib: float = field(default=512.0, metadata=Bound(0.001, 1e6))
    max_megapixels: float = field(default=50.0, metadata=Bound(0.001, 1e5))
    max_held_megapixels: float = field(default=100.0, metadata=Bound(0.001, 1e5))
    body_timeout_s: float = field(default=60.0, metadata=Bound(0.1, 86_400))
    decode_timeout_s: float = field(default=10.0, metadata=Bound(0.1, 3600))
    max_waiting: int = field(default=256, metadata=Bound(1, 1_000_000))
    load_timeout_s: float = field(default=300.0, metadata=Bound(1.0, 86_400.0))
    model_dirs: tuple[Path, ...] = ()
    allow_unverified: bool = False


@dataclass(frozen=True)
class Config:
    """A whole, validated config.yaml."""

    paths: Paths
    demo: bool = False
    data: Data = Data()
    detection: Detection = Detection()
    classification: Classification = Classification()
    export: Export = Export()
    runtime: Runtime = field(default_factory=Runtime)
    pipeline: PipelineSettings = PipelineSettings()
    serve: Serve = Serve()
    source: Path = field(default=Path("config.yaml"), metadata={"internal": True})

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
    into shards, what is remembered, how models are served and where the project lies cannot."""
    compare = replace(config.compare, shard_size=1, reference_cache_gib=0.0, runs_kept=1)
    judged = replace(config, export=replace(config.export, compare=compare), serve=Serve())
    content = asdict(replace(judged, pipeline=PipelineSettings(), source=Path()))
    folder = config.source.absolute().parent

    def as_written(path: Path) -> str:
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)

    return sha256_json(json.loads(json.dumps(content, default=as_written)))
