"""A search for the input that drives torch and the exported file furthest apart.

The worst that was found so far lies in examples/, as the few numbers that it is drawn from, and is
replayed by a quick test. `pytest -m proof` searches on, driven by hypothesis.target(), and writes
what it finds beside the exports, to be copied there when it is worse.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings, target
from hypothesis import strategies as st

from pillsnap.compare import noise
from pillsnap.config.cells import STAGES
from pillsnap.config.settings import Config
from pillsnap.core.files import write_atomic
from pillsnap.engines import Batch
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.engines.torch.checkpoints import build_model, find_best_checkpoint
from pillsnap.engines.torch.model import infer_torch
from pillsnap.pipeline.softmax import softmax
from tests.proof.conftest import MakeBench
from tests.proof.inputs import Drawn, drawn, stack

EXAMPLES = Path(__file__).parent / "examples"
SEARCHED = {"classification": 300, "detection": 40}


@dataclass(frozen=True)
class Pair:
    """The trained model and its export; `apart` gives their drift over a batch in units of numeric
    noise, the largest of all figures."""

    stage: str
    torch: Callable[[Batch], Batch]
    onnx: Callable[[Batch], Batch]
    transform: Any

    def apart(self, images: list[Drawn]) -> float:
        batch = stack(images, self.transform)
        a, b = self.torch(batch), self.onnx(batch)
        if self.stage == "detection":
            a = a[..., :6]  # the seventh column is for references alone
        assert np.isfinite(a).all()
        assert np.isfinite(b).all()
        if self.stage == "classification":
            return float(np.abs(softmax(a) - softmax(b)).max()) / noise.PROBABILITY
        boxes = float(np.abs(a[..., :4] - b[..., :4]).max()) / noise.BOX_PX
        scores = float(np.abs(a[..., 4] - b[..., 4]).max()) / noise.SCORE
        return max(boxes, scores)


@pytest.fixture
def pair_of(bench_of: MakeBench, threads: int) -> Callable[[str], Pair]:
    def make(stage: str) -> Pair:
        bench = bench_of(stage)
        checkpoint = find_best_checkpoint(bench.config, stage)
        module = build_model(bench.config, stage, checkpoint).module
        session = open_session(bench.healthy, "cpu", threads)
        return Pair(
            stage,
            lambda batch: infer_torch(module, batch),
            session.run,
            bench.transform,
        )

    return make


def read(path: Path) -> list[Drawn]:
    return [Drawn(**image) for image in json.loads(path.read_text())["images"]]


@pytest.mark.parametrize("stage", STAGES)
def test_the_worst_input_found_so_far_is_within_the_tolerances(
    stage: str, pair_of: Callable[[str], Pair]
) -> None:
    images = read(EXAMPLES / f"worst_{stage}.json")
    assert 0 < pair_of(stage).apart(images) < 1


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_no_input_drives_a_healthy_export_out_of_its_tolerances(
    stage: str, pair_of: Callable[[str], Pair], demo: Config
) -> None:
    pair = pair_of(stage)
    most = 9 if stage == "classification" else 3
    worst: tuple[float, list[Drawn]] = (0.0, [])

    @settings(
        max_examples=SEARCHED[stage],
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.target),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(drawn, min_size=1, max_size=most))
    def search(images: list[Drawn]) -> None:
        nonlocal worst
        apart = pair.apart(images)
        if apart > worst[0]:
            worst = (apart, images)
        target(math.log10(max(apart, 1e-12)), label="drift over tolerance, log10")
        assert apart < 1

    search()
    found = {
        "stage": stage,
        "drift_over_tolerance": worst[0],
        "images": [image.as_dict() for image in worst[1]],
    }
    path = demo.out_dir / f"proof_worst_{stage}.json"
    write_atomic(path, (json.dumps(found, indent=2) + "\n").encode())
