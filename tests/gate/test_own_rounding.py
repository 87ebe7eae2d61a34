"""Images on which torch itself rounds far more than on the first ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from pillsnap.compare.result import CellResult
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Classification, Config, Data
from pillsnap.config.validation import Validation
from pillsnap.export import export_onnx
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.own_rounding import RUNS, _rounded_anew
from pillsnap.gate.run import GateRun
from tests.small_models import Experiment

# Of a photo of one colour the last product is 0 but for rounding, which bright ones show.
OWN = """
import torch

class Net(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.pool = torch.nn.AvgPool2d(4)
        self.plain = torch.nn.Linear(192, num_classes)
        self.zero = torch.nn.Linear(192, num_classes, bias=False)

    def forward(self, images):
        seen = self.pool(images).flatten(1)
        bright = torch.relu(images.mean((1, 2, 3)) - 0.2) * 1e5
        return self.plain(seen) + bright[:, None] * self.zero(seen)
"""
FIRST, IMAGES = 4, 9


@pytest.fixture
def own(tmp_path: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> Config:
    (tmp_path / "own_rounding_net.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    from own_rounding_net import Net  # type: ignore[import-not-found]

    torch.manual_seed(0)
    net = Net(3)
    with torch.no_grad():
        half = torch.randn(3, 96)
        net.zero.weight.copy_(torch.cat([half, -half], dim=1))
    config = experiment(size=32)
    torch.save(net.state_dict(), config.exp_dir / "checkpoints/classification_best.pt")
    for index in range(IMAGES):
        path = tmp_path / f"val/{index // 3}/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        level = index if index < FIRST else 200 + index
        Image.new("RGB", (32, 32), (level,) * 3).save(path)
    half = (0.5,) * 3
    return replace(
        config,
        data=Data(Validation(single=tmp_path / "val")),
        classification=Classification(
            builder="own_rounding_net:Net",
            num_classes=3,
            mean=half,
            std=half,
            interpolation="bilinear",
            crop_pct=1.0,
        ),
    )


def judge(config: Config, folder: Path, candidate: Path | None = None) -> CellResult:
    given = {} if candidate is None else {"classification": candidate}
    selection = Selection(stages=("classification",), candidates=given)
    (result,) = judge_mode(GateRun(config, selection, threads=1, run_dir=folder / "run"), "smoke")
    return result


def breaches(result: CellResult) -> dict[str, float]:
    return {breach.figure: breach.value for breach in result.verdict.breaches}


def test_an_image_on_which_torch_rounds_more_is_no_alarm(
    own: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = judge(own, tmp_path)
    assert not breaches(healthy).keys() & {"prob_err_max", "logits_exactness"}
    assert healthy.exactness is not None
    assert healthy.exactness["images"] > FIRST
    monkeypatch.setattr("pillsnap.gate.own_rounding.MOST", 0)
    alarmed = judge(own, tmp_path)
    assert "prob_err_max" in breaches(alarmed), "what the first images say alone"


def test_a_file_that_is_less_exact_there_alone_breaches(own: Config, tmp_path: Path) -> None:
    model = onnx.load(export_onnx(own, "classification").path)
    # Of the two matrices the one without a bias, which the first images multiply by 0.
    name = next(node.input[1] for node in model.graph.node if node.op_type == "MatMul")
    weights = next(each for each in model.graph.initializer if each.name == name)
    values = numpy_helper.to_array(weights).copy()
    values[:3] *= 1.001
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(model, tmp_path / "off.onnx")
    result = judge(own, tmp_path, tmp_path / "off.onnx")
    found = breaches(result)
    assert found["logits_exactness"] > 8
    assert result.verdict.name == "breach"


def test_a_runs_luck_is_not_torchs_rounding() -> None:
    image = np.random.default_rng(1).random((1, 3, 4, 5), np.float32)
    runs = _rounded_anew(image)
    assert runs.shape == (RUNS, 3, 4, 5) and runs.dtype == np.float32
    assert np.array_equal(runs[:1], image)
    for other in runs[1:]:
        assert not np.array_equal(other, image[0])
        np.testing.assert_array_max_ulp(other, image[0], maxulp=2)
    assert len({run.tobytes() for run in runs}) == RUNS
