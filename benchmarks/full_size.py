"""Export and smoke gate at the size of production: YOLO11m 640 px, EfficientNetV2-S 384 px, 5,000
classes, random weights.

    python benchmarks/full_size.py

Prints one JSON line: wall seconds and peak resident memory of the whole pytest process, and per
cell verdict, seconds and drift. Random weights carry no signal, so the expected verdict is
`inconclusive` and the exit code 1; drift is what is measured.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from pillsnap.checkpoints import resolve_classify_transform
from pillsnap.config import load_config
from pillsnap.demo.drugs import DRUGS
from pillsnap.demo.render import render_single
from pillsnap.preprocess import ClassifyTransform, preprocess

ROOT = Path(__file__).resolve().parents[1]
NUM_CLASSES = 5000


def main() -> int:
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false")
    with tempfile.TemporaryDirectory() as folder:
        exp_dir = Path(folder)
        config = _write_config(exp_dir)
        transform = resolve_classify_transform(load_config(config))
        _save_checkpoints(exp_dir / "checkpoints", transform)
        started = time.perf_counter()
        command = ["-m", "pytest", "-m", "smoke", f"--config={config}", "-q"]
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        report = exp_dir / "export" / "export_report.json"
        if not report.exists():
            print(done.stdout, done.stderr, file=sys.stderr)
            return 1
        cells = json.loads(report.read_text())["cells"]
    drift = ("raw_box_err_px", "raw_score_err", "prob_err_max", "logit_err_max", "logit_snr_db")
    result = {
        "benchmark": "full_size",
        "exit_code": done.returncode,
        "seconds": round(seconds, 1),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "cores": os.cpu_count(),
        "cells": [
            {
                "id": cell["id"],
                "verdict": cell["verdict"],
                "reason": cell["reason"],
                "samples": cell["samples"],
                "seconds": cell["seconds"],
                **{name: cell["metrics"][name] for name in drift if name in cell["metrics"]},
            }
            for cell in cells
        ],
    }
    print(json.dumps(result))
    return 0


def _save_checkpoints(folder: Path, transform: ClassifyTransform) -> None:
    import timm
    import torch
    from ultralytics.nn.tasks import DetectionModel

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    classifier = timm.create_model("efficientnetv2_s", pretrained=False, num_classes=NUM_CLASSES)
    # As initialised, activations grow from layer to layer until rounding rules the logits. A few
    # batches in training mode give BatchNorm its statistics, as any training would.
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain average over the batches
    with torch.no_grad():
        for seed in range(4):
            photos = [render_single(drug, seed, split="train") for drug in range(len(DRUGS))]
            batch = [preprocess(np.asarray(photo), transform) for photo in photos]
            classifier.train()(torch.from_numpy(np.stack(batch)))
    torch.save({"state_dict": classifier.state_dict()}, folder / "classification_best.pt")
    detector = DetectionModel("yolo11m.yaml", nc=1, verbose=False)
    torch.save({"model": detector, "train_args": {}}, folder / "detection_best.pt")


def _write_config(exp_dir: Path) -> Path:
    from pillsnap.demo.dataset import write_validation

    data = exp_dir / "data"
    write_validation(data, singles_per_drug=2, scenes=32)
    class_map = json.loads((data / "class_map.json").read_text())
    codes = {f"K-9{index:05d}": index for index in range(len(class_map), NUM_CLASSES)}
    (data / "class_map.json").write_text(json.dumps({**class_map, **codes}))
    settings = {
        "paths": {"exp_dir": str(exp_dir)},
        "data": {
            "val": {
                "single": "data/val/single",
                "combo": {"images": "data/val/combo/images", "labels": "data/val/combo/labels"},
            },
            "class_map": "data/class_map.json",
        },
        "detection": {"model": "yolo11m", "num_classes": 1},
        "classification": {"backbone": "efficientnetv2_s", "num_classes": NUM_CLASSES},
    }
    path = exp_dir / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


if __name__ == "__main__":
    sys.exit(main())
