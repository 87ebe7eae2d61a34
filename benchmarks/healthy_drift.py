"""How far healthy exports drift: what the tolerances and noise limits are measured on.

    python benchmarks/healthy_drift.py [--opset 17]

Exports models of several families and sizes through the gate's own path and compares torch with
ONNX Runtime on the demo's images. One JSON line a model. The demo's models are trained; the others
have random weights, and BatchNorm statistics from a few batches in training mode, since a network
as initialised can blow rounding up to any size.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from pillsnap.config import Config, load_config
from pillsnap.demo.dataset import install
from pillsnap.demo.drugs import DRUGS
from pillsnap.demo.render import render_scene, render_single
from pillsnap.ledger import judge_mode
from pillsnap.preprocess import ClassifyTransform, LetterboxTransform, preprocess
from pillsnap.run import GateRun, Selection

ROOT = Path(__file__).resolve().parents[1]
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--opset", type=int, default=17)
    opset = parser.parse_args().opset
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false")
    demo = load_config(ROOT / "config.yaml")
    install(demo.exp_dir)
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
        threads = len(os.sched_getaffinity(0))
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
    transform = ClassifyTransform(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 1.0)
    photos = [
        [
            preprocess(np.asarray(render_single(drug, seed, split="train")), transform)
            for drug in range(len(DRUGS))
        ]
        for seed in range(2)
    ]
    settle_batchnorm(model, photos)
    checkpoint = folder / "checkpoints" / "classification_best.pt"
    checkpoint.parent.mkdir()
    torch.save(model.state_dict(), checkpoint)
    return resized(demo, folder, "classification", size, backbone=backbone)


def random_detector(demo: Config, folder: Path, name: str, size: int, classes: int) -> Config:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel(f"{name}.yaml", nc=classes, verbose=False)
    transform = LetterboxTransform(size, size)
    scenes = [
        [
            preprocess(np.asarray(render_scene(4 * batch + index, split="train")[0]), transform)
            for index in range(4)
        ]
        for batch in range(2)
    ]
    settle_batchnorm(model, scenes)
    checkpoint = folder / "checkpoints" / "detection_best.pt"
    checkpoint.parent.mkdir()
    torch.save({"model": model, "train_args": {}}, checkpoint)
    return resized(demo, folder, "detection", size, model=name, num_classes=classes)


def settle_batchnorm(model: object, batches: list[list[np.ndarray]]) -> None:
    """Give BatchNorm the statistics of these batches, as any training would."""
    import torch

    assert isinstance(model, torch.nn.Module)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain average over the batches
    with torch.no_grad():
        for batch in batches:
            model.train()(torch.from_numpy(np.stack(batch)))


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
