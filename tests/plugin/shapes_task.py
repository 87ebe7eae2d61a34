"""A third task, as a project would bring it: which way bars lie. Nothing of pillsnap knows it.

Its samples are files of a folder beside the configuration, named by their class; its model is a
classifier of its own, of two classes, that numpy computes. `register` adds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pillsnap.compare.figures import Figures
from pillsnap.compare.figures.classification import classification_figures
from pillsnap.compare.records import Columns
from pillsnap.compare.tasks import CLASSIFICATION_TASK, register, task_of
from pillsnap.config.settings import Config
from pillsnap.data.datasets import Dataset, Sample, Source
from pillsnap.engines import Batch, Entry, Reference, Request
from pillsnap.engines import register as register_engine
from pillsnap.pipeline.transforms import ClassifyTransform

CLASSES = ("lying", "standing")
SIZE = 16


def folder_of(config: Config) -> Path:
    return config.source.parent / "bars"


def read_bars(config: Config) -> Dataset:
    folder = folder_of(config)
    names = sorted(path.name for path in folder.glob("*.png"))
    return Dataset([Sample(name, folder, CLASSES.index(name.split("-")[0])) for name in names])


def measure(
    columns: Columns, config: Config, strides: Sequence[int], *, population: bool, bound: bool
) -> Figures:
    return classification_figures(columns, len(CLASSES), population=population)


BARS = replace(
    CLASSIFICATION_TASK,
    name="bars",
    source=Source("bars", "bars", folder_of, read_bars),
    model=lambda config: ("edges", len(CLASSES)),
    input_shape=lambda config: (1, 3, SIZE, SIZE),
    min_classes=lambda config: len(CLASSES),
    measure=measure,
)


@dataclass
class Edges:
    """Logits [N,2]: how much an image changes from row to row, and from column to column."""

    bias: float = 0.0
    info: dict[str, Any] = field(default_factory=lambda: {"providers": ["numpy"]})

    def run(self, batch: Batch) -> Batch:
        rows, columns = (np.abs(np.diff(batch, axis=axis)).mean(axis=(1, 2, 3)) for axis in (2, 3))
        return np.stack([20 * rows, 20 * columns + self.bias], axis=1).astype(np.float32)


def open_reference(request: Request) -> Reference:
    assert task_of(request.cell.stage) is BARS
    transform = ClassifyTransform(SIZE, (0.0,) * 3, (1.0,) * 3, "bilinear", 1.0)
    return Reference(
        Edges(), transform, key="edges", exact=lambda batch: Edges().run(batch).astype(np.float64)
    )


def register_bars(bias: float = 0.0) -> None:
    """The task, and an engine of it whose candidate leans towards standing bars."""
    register(BARS)
    register_engine(Entry("edges", lambda request, _: Edges(bias), reference=open_reference))


def draw_bars(folder: Path) -> None:
    folder.mkdir()
    for number in range(12):
        pixels = np.zeros((20, 20, 3), np.uint8)
        pixels[6 + number % 6 : 12 + number % 6] = 200
        for name, bar in zip(CLASSES, (pixels, pixels.swapaxes(0, 1)), strict=True):
            Image.fromarray(np.ascontiguousarray(bar)).save(folder / f"{name}-{number:02d}.png")
