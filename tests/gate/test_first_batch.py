"""What is found out on a cell's first batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.loading import Prepared
from pillsnap.compare.reference import CachedReference
from pillsnap.config.cells import Cell
from pillsnap.data.datasets import Sample
from pillsnap.engines.protocol import Reference
from pillsnap.engines.timing import Stopwatch
from pillsnap.engines.torch.model import TorchEngine
from pillsnap.engines.torch.safe_load import LoadedModel
from pillsnap.gate.first_batch import FirstBatch
from pillsnap.pipeline.transforms import ClassifyTransform
from pillsnap.tasks import CLASSIFICATION_TASK

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
