"""A training of minutes on a CPU, after which a detector tells the pills of a few photos from all
else so surely that half precision moves no score over a threshold, as it does of random weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from pillsnap.compare.loading import Prepared
from pillsnap.proof.healthy import settle_batchnorm

STEPS = 120


def train(model: Any, photos: Prepared, classes: int) -> None:
    """On all photos at every step, and no others; the model is in evaluation mode afterwards."""
    import torch
    from ultralytics.cfg import get_cfg

    truth = _labels(photos, classes)
    model.nc, model.args = classes, get_cfg(overrides={"epochs": STEPS})  # what its loss reads
    head = model.model[-1]
    queries = getattr(head, "num_queries", None)
    if queries:  # the same weights, and a fifth of the time
        head.num_queries, head.num_denoising = 50, 20
    optimizer = torch.optim.AdamW(model.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, total_steps=STEPS, pct_start=0.1)
    model.train()
    for _ in range(STEPS):
        loss, _ = model(truth)
        optimizer.zero_grad()
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
    if queries:
        head.num_queries = queries
    del model.criterion, model.args
    settle_batchnorm(model, [photos.array])


def _labels(photos: Prepared, classes: int) -> dict[str, Any]:
    """As ultralytics' losses take them. A class is of the pills of a third of the sizes."""
    import torch

    places, found = [], []
    side = photos.array.shape[-1]
    for place, (sample, geometry) in enumerate(zip(photos.samples, photos.geometries, strict=True)):
        scale = np.array((geometry.width, geometry.height) * 2) * geometry.ratio
        for box in sample.boxes or ():
            x, y, width, height = np.array((box.cx, box.cy, box.w, box.h)) * scale
            found.append((x + geometry.left, y + geometry.top, width, height))
            places.append(place)
    boxes = np.array(found, np.float32) / side
    sizes = boxes[:, 2:].max(axis=1)
    bounds = np.quantile(sizes, np.arange(1, classes) / classes)
    return {
        "img": torch.from_numpy(photos.array),
        "batch_idx": torch.tensor(places),
        "bboxes": torch.from_numpy(boxes),
        "cls": torch.from_numpy(np.digitize(sizes, bounds)).float().unsqueeze(1),
    }
