"""Sizes and class counts of the config take effect in the file, the comparison and the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from pillsnap.config.load import load_config
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.checkout import Checkout
from pillsnap.core.hashes import utc_now
from pillsnap.demo.dataset import install
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.run import GateRun
from pillsnap.report import RunFacts, build_report
from tests.small_models import make_classifier, make_detector, save_detector

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("stage", "size", "classes"), [("classification", 64, 31), ("detection", 160, 3)]
)
def test_other_sizes_and_class_counts_take_effect(
    tmp_path: Path, stage: str, size: int, classes: int
) -> None:
    config = other_config(tmp_path, stage, size, classes)
    run = GateRun(
        config, Selection(stages=(stage,)), threads=1, run_dir=tmp_path / "runs" / "run-1"
    )
    (result,) = judge_mode(run, "smoke")
    assert result.measured, result.verdict.reason
    facts = RunFacts("run-1", utc_now(), "pytest", Checkout("nogit"), 1, 1, True, [], {})
    report = build_report([result], config, facts)["stages"][stage]

    assert report["input_shape"] == [1, 3, size, size]
    assert report["num_classes"] == classes
    file = onnx.load(report["onnx_path"])
    metadata = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(metadata["pillsnap.input_shape"]) == [1, 3, size, size]
    assert metadata["pillsnap.num_classes"] == str(classes)
    if stage == "classification":
        dims = [dim.dim_value for dim in file.graph.output[0].type.tensor_type.shape.dim]
        assert dims[-1] == classes
        outcome = result.outcomes[0]
        assert outcome.transform["size"] == size
    else:
        transform = result.outcomes[0].transform
        assert (transform["height"], transform["width"]) == (size, size)
        assert [row["stride"] for row in result.metrics["per_stride"]] == [8, 16, 32]
    # Random weights are as healthy as trained ones, but show nothing.
    assert result.verdict.name == "inconclusive"


def other_config(folder: Path, stage: str, size: int, classes: int) -> Config:
    demo = load_config(ROOT / "config.yaml", {})
    install(demo.exp_dir)
    shape = {stage: (1, 3, size, size)}
    compare = replace(demo.compare, sample_count=6, batch_size=4)
    export = replace(
        demo.export, input_shape=replace(demo.export.input_shape, **shape), compare=compare
    )
    checkpoint = folder / "checkpoints" / f"{stage}_best.pt"
    checkpoint.parent.mkdir()
    if stage == "classification":
        torch.save(make_classifier("test_resnet", classes).state_dict(), checkpoint)
    else:
        save_detector(make_detector("yolo11n", classes), checkpoint)
    return replace(
        demo,
        paths=replace(demo.paths, exp_dir=folder),
        export=export,
        **{stage: replace(getattr(demo, stage), num_classes=classes)},
    )
