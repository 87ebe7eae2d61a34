"""A healthy file that ONNX Runtime computes wrongly: the optimizer is named, and can be off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillsnap.compare.result import CellResult
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.gate.diagnosing import diagnose_cells
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.run import GateRun
from pillsnap.proof.healthy import _images, settle_batchnorm
from tests.small_models import make_detector, save_detector

Judge = Callable[..., tuple[GateRun, CellResult]]


@pytest.fixture(scope="module")
def padded(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """ultralytics' yolov3-tiny, which pads with zeros before a MaxPool, behind SiLU; of random
    weights, so that labels would tell nothing."""
    combo = config.data.val.combo
    assert combo is not None
    export = replace(
        config.export,
        input_shape=replace(config.export.input_shape, detection=(1, 3, 96, 128)),
        compare=replace(config.compare, sample_count=4, batch_size=4, hard_per_bin=0),
    )
    config = replace(
        config,
        paths=replace(config.paths, exp_dir=tmp_path_factory.mktemp("exp")),
        detection=replace(config.detection, model="yolov3-tiny"),
        data=replace(config.data, val=replace(config.data.val, combo=replace(combo, labels=None))),
        export=export,
    )
    model: Any = make_detector("yolov3-tiny", config.detection.num_classes)
    for branch in model.model[-1].cv3:
        branch[-1].bias.data.fill_(0.0)  # scores around a half: there are boxes
    settle_batchnorm(model, _images(config, "detection"))
    path = config.exp_dir / "checkpoints" / "detection_best.pt"
    save_detector(model, path)
    return config


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    def judge(config: Config) -> tuple[GateRun, CellResult]:
        selection = Selection(stages=("detection",), providers=("cpu",))
        run = GateRun(config, selection, threads=1, run_dir=tmp_path / "run")
        (result,) = judge_mode(run, "smoke")
        return run, result

    return judge


def test_the_optimizer_is_named_and_without_it_the_cell_is_equivalent(
    padded: Config, judge: Judge
) -> None:
    run, result = judge(padded)
    assert result.verdict.name == "breach", result.verdict.reason
    assert result.metrics["box_exactness"] > 100
    (found,) = diagnose_cells(run, [result]).values()
    causes = found["causes"]
    assert causes["stated"] == "optimizer Pad fusion"
    assert causes["hint"] == "runtime.disabled_optimizers: [Pad_Fusion, PadFusion]"
    tried = {each["name"]: each["vanishes"] for each in causes["tried"]}
    assert tried == {"graph optimisation off": True, "without Pad_Fusion, PadFusion": True}
    names = ("Pad_Fusion", "PadFusion")
    runtime = replace(padded.runtime, disabled_optimizers=names)
    _, result = judge(replace(padded, runtime=runtime))
    assert result.verdict.name == "equivalent", result.verdict.reason
