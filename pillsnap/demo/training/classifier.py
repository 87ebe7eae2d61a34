"""Trains the demo's classifier from nothing: timm's `test_resnet` on rendered pills, on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from pillsnap.core.cpus import usable_cpus
from pillsnap.demo.drugs import DRUGS
from pillsnap.demo.render import render_crop, render_single
from pillsnap.demo.training.checkpoint import write_checkpoint

if TYPE_CHECKING:
    import torch

ARCHITECTURE = "test_resnet"
SIZE_PX = 96
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
INTERPOLATION = "bicubic"
CROP_PCT = 1.0

# Photos and, as many, crops as the detector cuts them: the classifier sees both.
IMAGES_PER_DRUG = 240
EPOCHS = 10
BATCH = 24  # larger batches tell the shapes apart but never learn the imprints
PEAK_LR = 2e-3
_SHIFT_PX = 5


def train_classifier(out: Path, *, seed: int, threads: int) -> Path:
    """Writes out/classification_best.pt: {"state_dict": {name: fp16 tensor}}."""
    import timm
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    images, labels = _training_images()
    model = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=len(DRUGS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.02)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LR, total_steps=EPOCHS * steps
    )
    for epoch in range(EPOCHS):
        model.train()
        order = torch.randperm(len(images))
        loss_sum = 0.0
        hits = 0
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            logits = model(_augment(images[chosen]))
            loss = cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
            hits += int((logits.argmax(1) == labels[chosen]).sum())
        print(
            f"epoch {epoch + 1}/{EPOCHS}: loss {loss_sum / steps:.3f},"
            f" top-1 while training {hits / (steps * BATCH):.3f}",
            flush=True,
        )
    target = out / "classification_best.pt"
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    write_checkpoint({"state_dict": half}, target)
    return target


def eval_transform() -> Callable[[Image.Image], torch.Tensor]:
    """The preprocessing of config.yaml without its normalisation: photo to uint8 [3, S, S]."""
    from timm.data.transforms_factory import transforms_imagenet_eval

    transform: Callable[[Image.Image], torch.Tensor] = transforms_imagenet_eval(
        img_size=SIZE_PX, crop_pct=CROP_PCT, interpolation=INTERPOLATION, normalize=False
    )
    return transform


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 3, S, S] to the float32 that the classifier takes."""
    import torch

    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


def _training_images() -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 [N, 3, S, S] and int64 [N]."""
    import torch

    transform = eval_transform()

    def draw(drug_index: int) -> torch.Tensor:
        half = IMAGES_PER_DRUG // 2
        photos = [render_single(drug_index, n, split="train") for n in range(half)]
        photos += [render_crop(drug_index, n, split="train") for n in range(half)]
        return torch.stack([transform(photo) for photo in photos])

    with ThreadPoolExecutor(min(4, usable_cpus())) as pool:
        drawn = list(pool.map(draw, range(len(DRUGS))))
    return torch.cat(drawn), torch.arange(len(DRUGS)).repeat_interleave(IMAGES_PER_DRUG)


def _augment(images: torch.Tensor) -> torch.Tensor:
    """A random shift and exposure per image; no flips, which would turn an imprint around."""
    import torch
    from torch.nn.functional import pad

    padded = pad(images.float(), [_SHIFT_PX] * 4, mode="replicate")
    corners = torch.randint(0, 2 * _SHIFT_PX + 1, (len(images), 2)).tolist()
    shifted = torch.stack(
        [
            image[:, y : y + SIZE_PX, x : x + SIZE_PX]
            for image, (y, x) in zip(padded, corners, strict=True)
        ]
    )
    gain = torch.empty(len(images), 1, 1, 1).uniform_(0.9, 1.1)
    return normalise((shifted * gain).clamp(0, 255))
