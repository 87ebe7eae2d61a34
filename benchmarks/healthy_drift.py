"""How far healthy exports drift: what the tolerances and noise limits are measured on.

    python benchmarks/healthy_drift.py [--opset 17]

Exports models of several families and sizes through the gate's own path and compares torch with
ONNX Runtime on the demo's images. One JSON line a model. The demo's models are trained; the others
have random weights, and BatchNorm statistics from a few batches in training mode, since a network
as initialised can blow rounding up to any size.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from projects import (
    HALF,
    keep_offline,
    make_demo,
    photo_batches,
    scene_batches,
    workdir_parser,
)

from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.cpus import usable_cpus
from pillsnap.demo.drugs import DRUGS
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.run import GateRun
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform
from pillsnap.proof.healthy import settle_batchnorm

SAMPLES = 8
CLASSIFIERS = (
    ("resnet18", 224),
    ("mobilenetv3_small_100", 224),
    ("efficientnet_b0", 224),
    ("efficientnetv2_s", 384),
    ("convnext_tiny", 224),
    ("vit_small_patch16_224", 224),
    ("swin_tiny_patch4_window7_224", 224),
)
DETECTORS = (
    ("yolov8n", 320, 1),
    ("yolov10n", 320, 1),
    ("yolo11n", 320, 5),
    ("yolo11s", 640, 1),
    ("yolo11m", 640, 1),
    ("yolo26n", 320, 1),
)
FIGURES = (
    "mse_mean",
    "mse_p99",
    "prob_err_max",
    "logit_err_max",
    "logit_snr_db",
    "top1_mismatch_count",
    "raw_box_err_px",
    "raw_score_err",
    "class_flips",
    "iou_delta_p95",
    "unmatched_rate",
)


def main() -> int:
    parser = workdir_parser(__doc__)
    parser.add_argument("--opset", type=int, default=17)
    arguments = parser.parse_args()
    opset = arguments.opset
    keep_offline()
    demo = make_demo(arguments.workdir.resolve()).config
    compare = replace(demo.compare, sample_count=SAMPLES, batch_size=4)
    demo = replace(demo, export=replace(demo.export, compare=compare, opset=opset))
    for stage in ("classification", "detection"):
        measure(demo, stage, f"demo {stage}")
    for backbone, size in CLASSIFIERS:
        with tempfile.TemporaryDirectory() as folder:
            measure(
                random_classifier(demo, Path(folder), backbone, size), "classification", backbone
            )
    for name, size, classes in DETECTORS:
        with tempfile.TemporaryDirectory() as folder:
            config = random_detector(demo, Path(folder), name, size, classes)
            measure(config, "detection", name)
    return 0


def measure(config: Config, stage: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = replace(config, export=replace(config.export, out_dir=Path(folder) / "export"))
        threads = usable_cpus()
        run = GateRun(
            config, Selection(stages=(stage,)), threads=threads, run_dir=Path(folder) / "run"
        )
        (result,) = judge_mode(run, "smoke")
    figures = {key: result.metrics[key] for key in FIGURES if key in result.metrics}
    line = {
        "model": name,
        "size": config.input_shape(stage)[2],
        "opset": config.export.opset,
        "verdict": result.verdict.name,
        **(figures or {"reason": result.verdict.reason}),
    }
    print(json.dumps(line), flush=True)


def random_classifier(demo: Config, folder: Path, backbone: str, size: int) -> Config:
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(backbone, pretrained=False, num_classes=len(DRUGS))
    transform = ClassifyTransform(size, HALF, HALF, "bicubic", 1.0)
    settle_batchnorm(model, photo_batches(transform, 2))
    checkpoint = folder / "checkpoints" / "classification_best.pt"
    checkpoint.parent.mkdir()
    torch.save(model.state_dict(), checkpoint)
    return resized(demo, folder, "classification", size, backbone=backbone)


def random_detector(demo: Config, folder: Path, name: str, size: int, classes: int) -> Config:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel(f"{name}.yaml", nc=classes, verbose=False)
    settle_batchnorm(model, scene_batches(LetterboxTransform(size, size), 2))
    checkpoint = folder / "checkpoints" / "detection_best.pt"
    checkpoint.parent.mkdir()
    torch.save({"model": model, "train_args": {}}, checkpoint)
    return resized(demo, folder, "detection", size, model=name, num_classes=classes)


def resized(demo: Config, folder: Path, stage: str, size: int, **section: object) -> Config:
    shapes = replace(demo.export.input_shape, **{stage: (1, 3, size, size)})
    return replace(
        demo,
        paths=replace(demo.paths, exp_dir=folder),
        export=replace(demo.export, input_shape=shapes),
        **{stage: replace(getattr(demo, stage), **section)},
    )


if __name__ == "__main__":
    sys.exit(main())
