"""Which ONNX Runtime a file needs, and that it needs no newer one than its opset does."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pillsnap.export import describe_onnx, export_classification_onnx
from pillsnap.export.quantize import quantize_once
from pillsnap.export.runtimes import least_runtime, lower_ir_version
from tests.small_models import Experiment


@pytest.mark.parametrize(
    ("opset", "ir_version", "release"),
    [
        (11, 6, "1.6"),
        (13, 7, "1.6"),
        (17, 8, "1.12"),
        (18, 8, "1.14"),
        (17, 9, "1.15"),  # as 1.14 refuses: it reads IR 8 at most
        (17, 10, "1.18"),
        (18, 10, "1.18"),
        (22, 10, "1.21"),
        (99, 8, None),
    ],
)
def test_the_first_release_that_reads_a_file(
    opset: int, ir_version: int, release: str | None
) -> None:
    assert least_runtime(opset, ir_version) == release


@pytest.mark.parametrize(("found", "kept"), [(14, 8), (10, 8), (8, 8), (7, 7)])
def test_the_ir_version_is_lowered_to_that_of_the_opset(found: int, kept: int) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", *([v] for v in values))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=found)
    lower_ir_version(model)
    assert model.ir_version == kept


def test_whoever_writes_the_file(experiment: Experiment, tmp_path: Path) -> None:
    config = experiment(backbone="test_resnet", exporter="dynamo", opset=18)
    exported = export_classification_onnx(config)
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == exported.ir_version == 8
    summary = describe_onnx(exported.path, "classification").summary()
    assert (summary["ir_version"], summary["min_onnxruntime"]) == (8, "1.14")

    model.ir_version = 10
    onnx.save(model, tmp_path / "newer.onnx")
    newer = describe_onnx(tmp_path / "newer.onnx", "classification")
    assert newer.summary()["min_onnxruntime"] == "1.18"
    made = quantize_once(config, "classification", newer, "fp16")
    assert onnx.load(made.path).ir_version == made.ir_version == 8
