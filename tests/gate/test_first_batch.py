"""What is found out on a cell's first batch."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.loading import Prepared
from pillsnap.compare.reference import CachedReference
from pillsnap.compare.tasks import CLASSIFICATION_TASK
from pillsnap.config.cells import Cell
from pillsnap.data.datasets import Sample
from pillsnap.engines.protocol import Reference
from pillsnap.engines.timing import Stopwatch
from pillsnap.engines.torch.model import TorchEngine
from pillsnap.engines.torch.safe_load import LoadedModel
from pillsnap.gate.first_batch import FirstBatch
from pillsnap.pipeline.transforms import ClassifyTransform

CELL = Cell("classification", "onnx", "cpu", "fp32", "coverage", hard=True)


class Mixed(torch.nn.Module):
    """Multiplies by float32 whatever it is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :4] @ torch.ones(4, 4)


@pytest.mark.parametrize("known", [True, False])
def test_a_network_that_runs_in_float32_alone_keeps_its_other_figures(known: bool) -> None:
    about: dict[str, Any] = {"checkpoint": "best.pt"}
    engine = TorchEngine(lambda: LoadedModel(Mixed()), about, device="cpu", threads=1)
    transform = ClassifyTransform(4, (0.0,) * 3, (1.0,) * 3, "bilinear", 1.0)
    reference = Reference(engine, transform, exact=engine.run_exact)
    if not known:
        reference = replace(reference, exact=None)
    asked = CachedReference(reference, None, CLASSIFICATION_TASK.is_output)
    first = FirstBatch(CELL, Stopwatch(engine), asked, ClassificationRecorder(), count=4)
    images = np.zeros((2, 3, 4, 4), np.float32)
    samples = [Sample(name, Path("x.png"), 0) for name in "ab"]
    output = engine.run(images)
    first.see(Prepared(samples, images, [b"a", b"b"]), output, output)
    exact = first.exact()
    assert exact is None
    assert first.exactness(exact) is None
    assert (first.problem is not None) is known
    if first.problem is not None:
        assert first.problem.startswith("torch cannot run this network in float64")


def test_errors_are_of_the_first_images() -> None:
    seen: list[list[float]] = []

    def exact(images: np.ndarray) -> np.ndarray:
        seen.append(images[:, 0, 0, 0].tolist())
        return np.zeros((len(images), 5))

    engine = TorchEngine(lambda: LoadedModel(Mixed()), {}, device="cpu", threads=1)
    transform = ClassifyTransform(4, (0.0,) * 3, (1.0,) * 3, "bilinear", 1.0)
    asked = CachedReference(
        Reference(engine, transform, exact=exact), None, CLASSIFICATION_TASK.is_output
    )
    first = FirstBatch(CELL, Stopwatch(engine), asked, ClassificationRecorder(), count=3)
    samples = [Sample(str(i), Path("x.png"), 0) for i in range(4)]
    images = np.arange(4, dtype=np.float32).repeat(48).reshape(4, 3, 4, 4)
    outputs = np.array([0, 0, 2, 9], np.float32)[:, None].repeat(5, axis=1)
    first.see(Prepared(samples, images, [b"0", b"1", b"2", b"3"]), outputs, outputs + 1)
    found = first.exact()
    assert found is not None
    assert seen == [[0], [1], [2]]
    of_all = first.exactness(found)
    assert of_all is not None and of_all["images"] == 3
    assert of_all["parts"][0]["reference"] == pytest.approx(math.sqrt(4 / 3))
    assert of_all["parts"][0]["candidate"] == pytest.approx(math.sqrt(11 / 3))
    # A bundle may have fewer.
    of_one = first.exactness(found[:1])
    assert of_one is not None
    assert (of_one["images"], of_one["parts"][0]["reference"]) == (1, 0)
