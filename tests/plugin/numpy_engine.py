"""A small engine made of numpy, for tests of the plugin: torch and timm take seconds to import.

It sees real images through the real preprocessing and answers in the shapes of real models, so
everything but the networks is what ships. `register` adds it as `--engine numpy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.hashes import sha256_json
from pillsnap.engines import Batch, Entry, Reference, Request, register
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform

COLOURS = np.array(
    [(0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.1, 0.9), (0.9, 0.9, 0.1)], dtype=np.float32
)
STRIDES = (8, 16, 32)

Fault = Callable[[str, Batch, Batch], Batch]
Watch = Callable[[str, Batch], None]


@dataclass
class NumpyEngine:
    """`fault(stage, input, output)` changes the output; the candidate's only. `watch(stage, input)`
    is called whenever the reference is."""

    stage: str
    fault: Fault | None = None
    watch: Watch | None = None
    info: dict[str, Any] = field(default_factory=lambda: {"providers": ["numpy"]})

    def run(self, batch: Batch) -> Batch:
        if self.watch is not None:
            self.watch(self.stage, batch)
        output = _classify(batch) if self.stage == "classification" else _detect(batch)
        if self.fault is None:
            return output
        output = output[..., :6] if self.stage == "detection" else output
        return self.fault(self.stage, batch, output.copy())

    def run_exact(self, batch: Batch) -> NDArray[np.float64]:
        """The reference's output, which a few operations in float32 hardly round."""
        return NumpyEngine(self.stage).run(batch).astype(np.float64)


def _classify(batch: Batch) -> Batch:
    """Logits [N,4]: how near an image's mean colour is to each drug's."""
    mean = batch.mean(axis=(2, 3))
    return -20 * ((mean[:, None] - COLOURS[None]) ** 2).sum(axis=2).astype(np.float32)


def _detect(batch: Batch) -> Batch:
    """Detections [N,A,7]: every anchor names the white rectangle, the one at its centre with
    confidence, at the stride that fits its size."""
    height, width = batch.shape[2:]
    images = []
    for image in batch:
        ys, xs = np.nonzero(image.min(axis=0) > 0.9)
        x1, y1, x2, y2 = (
            (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else (0, 0, 1, 1)
        )
        rows = []
        for stride in STRIDES:
            gy, gx = np.mgrid[: height // stride, : width // stride]
            here = (gy == (y1 + y2) // 2 // stride) & (gx == (x1 + x2) // 2 // stride)
            fits = stride == min(STRIDES, key=lambda s: abs(x2 - x1 - 4 * s))
            conf = np.where(here & fits & (len(xs) > 0), 0.9, 0.01).ravel()
            boxes = np.tile([x1, y1, x2, y2], (len(conf), 1))
            flat = np.zeros(len(conf))
            rows.append(np.column_stack([boxes, conf, flat, np.full(len(conf), np.inf)]))
        images.append(np.concatenate(rows))
    return np.array(images, dtype=np.float32)


def open_reference(request: Request, watch: Watch | None) -> Reference:
    stage = request.cell.stage
    _, _, height, width = request.config.input_shape(stage)
    engine = NumpyEngine(stage, watch=watch)
    key = sha256_json([stage, height, width])
    exact = engine.run_exact
    if stage == "detection":
        return Reference(engine, LetterboxTransform(height, width), STRIDES, key, exact)
    crop = ClassifyTransform(height, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", 1.0)
    return Reference(engine, crop, key=key, exact=exact)


def healthy(stage: str, batch: Batch, output: Batch) -> Batch:
    return output


def register_numpy(fault: Fault = healthy, watch: Watch | None = None) -> None:
    register(
        Entry(
            "numpy",
            lambda request, _: NumpyEngine(request.cell.stage, fault),
            reference=lambda request: open_reference(request, watch),
        )
    )
