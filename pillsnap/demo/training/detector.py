"""Trains the demo's detector from nothing: YOLO11n, one class, on rendered scenes, on a CPU."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.demo.labels import CLASS_NAME, yolo_label
from pillsnap.demo.render import render_scene
from pillsnap.demo.training.checkpoint import write_checkpoint

if TYPE_CHECKING:
    from ultralytics.models.yolo.detect import DetectionTrainer


@dataclass(frozen=True)
class Phase:
    """One training run over its own scenes, from the weights of the phase before."""

    size_px: int
    """Side of the input; 320 px is four times as fast as the 640 px in use."""
    scenes: range
    """Seeds of the scenes, from the training branch."""
    epochs: int
    lr: float
    """Learning rate at the start; it falls along a cosine."""
    sized: bool
    """Whether each head is given the pills of its sizes only, see `assigner`."""


PHASES = (
    Phase(320, range(0, 600), epochs=14, lr=2e-3, sized=False),
    Phase(320, range(600, 1200), epochs=4, lr=1e-3, sized=True),
)
_CHECK_SCENES = range(100_000, 100_040)


def train_detector(out: Path, work: Path, *, seed: int, threads: int) -> Path:
    """Writes out/detection_best.pt, after every phase; everything else stays below `work`.

    `keep_offline` must have run.
    """
    import torch
    from ultralytics import YOLO

    from pillsnap.demo.training.assigner import give_heads_their_sizes

    def prepare_loss(trainer: DetectionTrainer) -> None:
        give_heads_their_sizes(trainer.model)

    def use_all_threads(_: DetectionTrainer) -> None:
        # On a CPU ultralytics leaves one core idle.
        torch.set_num_threads(threads)

    start: Path | str = "yolo11n.yaml"
    for number, phase in enumerate(PHASES):
        data = _write_scenes(work / f"scenes{number}", phase.scenes)
        model = YOLO(str(start))
        if phase.sized:
            model.add_callback("on_train_start", prepare_loss)
        for event in ("on_train_start", "on_train_epoch_start"):
            model.add_callback(event, use_all_threads)
        model.train(
            data=str(data),
            imgsz=phase.size_px,
            epochs=phase.epochs,
            batch=8,
            nbs=8,  # one step per batch: too few steps otherwise
            optimizer="AdamW",
            lr0=phase.lr,
            cos_lr=True,
            warmup_epochs=1 if number == 0 else 0,  # trained biases need none
            mosaic=0.0,
            scale=0.4,
            flipud=0.5,
            device="cpu",
            workers=0,
            cache="ram",
            amp=False,
            val=False,
            plots=False,
            pretrained=number > 0,  # later phases go on from our own first
            seed=seed,
            deterministic=True,
            project=str(work / "runs"),
            name=f"phase{number}",
            exist_ok=True,
        )
        start = work / "runs" / f"phase{number}" / "weights" / "last.pt"
        save_detector(Path(start), out / "detection_best.pt")
    return out / "detection_best.pt"


def save_detector(trained: Path, target: Path) -> None:
    """Rewrites an ultralytics checkpoint without paths, dates, optimiser and training options."""
    import torch
    import ultralytics

    # Our own file, written a moment ago.
    checkpoint: dict[str, Any] = torch.load(trained, map_location="cpu", weights_only=False)
    model = (checkpoint.get("ema") or checkpoint["model"]).half().eval()
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.args = {"task": "detect", "imgsz": 640}
    model.names = {0: CLASS_NAME}
    for leftover in ("criterion", "pt_path", "ckpt_path", "optimizer"):
        model.__dict__.pop(leftover, None)
    clean = {
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": dict(model.args),
        "train_metrics": {},
        "train_results": {},
        "date": None,
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
    }
    write_checkpoint(clean, target)


def _write_scenes(root: Path, seeds: range) -> Path:
    """Training scenes and a few to watch it by; returns the data file for ultralytics."""
    for part, part_seeds in (("train", seeds), ("check", _CHECK_SCENES)):
        images, labels = root / part / "images", root / part / "labels"
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for seed in part_seeds:
            image, boxes = render_scene(seed, split="train")
            image.save(images / f"{seed:06d}.png", compress_level=1)
            label = yolo_label(boxes, image.width, image.height)
            (labels / f"{seed:06d}.txt").write_text(label, encoding="ascii")
    data = root / "data.yaml"
    data.write_text(
        f"path: {root}\ntrain: train/images\nval: check/images\nnames:\n  0: {CLASS_NAME}\n",
        encoding="utf-8",
    )
    return data


def keep_offline(config_dir: Path) -> None:
    """Points ultralytics at a private settings folder that already holds the font it wants.

    Works only before the process first imports ultralytics, which reads its environment once.
    """
    import matplotlib

    settings = config_dir / "Ultralytics"
    settings.mkdir(parents=True, exist_ok=True)
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    # It looks for this name and would fetch it; any font serves.
    shutil.copyfile(font, settings / "Arial.ttf")
    os.environ.update(
        YOLO_CONFIG_DIR=str(config_dir), YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false"
    )
