"""The demo's healthy exports pass, and broken ones do not: real models through the real gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pillsnap.compare.result import CellResult
from pillsnap.config.cells import STAGES
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.engines import Batch, Engine, find_entry, register
from pillsnap.export import export_classification_onnx, export_detection_onnx
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.run import GateRun


@pytest.fixture(scope="module")
def judge(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CellResult]:
    """The gate's judgement of one stage, by the path every run takes, less pytest."""

    def judge(
        stage: str, candidate: Path | None = None, engine: str = "onnx", samples: int = 32
    ) -> CellResult:
        candidates = {} if candidate is None else {stage: candidate}
        selection = Selection(stages=(stage,), engines=(engine,), candidates=candidates)
        compare = replace(config.compare, sample_count=samples)
        own = replace(config, export=replace(config.export, compare=compare))
        run = GateRun(own, selection, threads=1, run_dir=tmp_path_factory.mktemp("run"))
        (result,) = judge_mode(run, "smoke")
        return result

    return judge


@pytest.fixture(scope="module")
def healthy(config: Config) -> dict[str, onnx.ModelProto]:
    return {
        "detection": onnx.load(export_detection_onnx(config).path),
        "classification": onnx.load(export_classification_onnx(config).path),
    }


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def float_weights(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return (t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)


def change(tensor: onnx.TensorProto, how: Callable[[np.ndarray], np.ndarray]) -> None:
    values = how(numpy_helper.to_array(tensor)).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize("stage", STAGES)
def test_healthy_exports_are_equivalent_and_have_something_to_compare(
    judge: Callable[..., CellResult], stage: str
) -> None:
    result = judge(stage)
    assert result.verdict.name == "equivalent", result.verdict.reason
    metrics = result.metrics
    if stage == "classification":
        assert metrics["reference_top1"] >= 0.9
        assert metrics["top1_mismatch_count"] == 0
        assert 0 < metrics["prob_err_max"] < 1e-5
    else:
        assert metrics["reference_map_0_5"] >= 0.6
        assert [row["stride"] for row in metrics["per_stride"]] == [8, 16, 32]
        assert all(row["reference_boxes"] > 0 for row in metrics["per_stride"])
        assert 0 < metrics["raw_box_err_px"] < 5e-3


def test_every_weight_tensor_off_by_one_percent_is_a_breach(
    judge: Callable[..., CellResult],
    healthy: dict[str, onnx.ModelProto],
    save: Callable[[onnx.ModelProto], Path],
) -> None:
    names = [tensor.name for tensor in float_weights(healthy["classification"])]
    assert len(names) >= 10
    passed = []
    for name in names:
        model = copy_of(healthy["classification"])
        change(next(t for t in float_weights(model) if t.name == name), lambda w: w * 1.01)
        result = judge("classification", save(model), samples=4)
        if result.verdict.name != "breach":
            passed.append((name, result.verdict.name, result.metrics["prob_err_max"]))
    assert passed == []


@pytest.mark.parametrize("dead", [(0, 1), (0, 2), (1, 2)])
def test_detector_with_two_dead_heads_is_a_breach(
    judge: Callable[..., CellResult],
    healthy: dict[str, onnx.ModelProto],
    save: Callable[[onnx.ModelProto], Path],
    dead: tuple[int, int],
) -> None:
    model = copy_of(healthy["detection"])
    heads = [f".cv{branch}.{head}." for branch in (2, 3) for head in dead]
    tensors = [t for t in float_weights(model) if any(head in t.name for head in heads)]
    assert len(tensors) >= 12
    for tensor in tensors:
        change(tensor, np.zeros_like)
    result = judge("detection", save(model), samples=8)
    assert result.verdict.name == "breach"
    strides = {breach.where for breach in result.verdict.breaches}
    assert {f"stride {(8, 16, 32)[head]}" for head in dead} <= strides


@pytest.mark.parametrize("stage", STAGES)
def test_weights_of_half_precision_are_a_breach(
    judge: Callable[..., CellResult],
    healthy: dict[str, onnx.ModelProto],
    save: Callable[[onnx.ModelProto], Path],
    stage: str,
) -> None:
    model = copy_of(healthy[stage])
    for tensor in list(float_weights(model)):
        change(tensor, lambda w: w.astype(np.float16))
    assert judge(stage, save(model)).verdict.name == "breach"


@pytest.mark.filterwarnings("ignore:the float32 number")  # tiny weights become the tiniest half
def test_fp16_file_is_a_breach_though_practical_would_hold(
    judge: Callable[..., CellResult],
    healthy: dict[str, onnx.ModelProto],
    save: Callable[[onnx.ModelProto], Path],
) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(
        copy_of(healthy["classification"]), keep_io_types=True, disable_shape_infer=True
    )
    del half.metadata_props[:]  # its graph tells a file that says it is pillsnap's
    verdict = judge("classification", save(half)).verdict
    assert (verdict.name, verdict.looser) == ("breach", "practical")


@pytest.mark.parametrize("stage", STAGES)
def test_int8_weights_are_a_breach(
    judge: Callable[..., CellResult],
    healthy: dict[str, onnx.ModelProto],
    tmp_path: Path,
    stage: str,
) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, target = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    onnx.save(healthy[stage], source)
    quantize_dynamic(source, target, weight_type=QuantType.QUInt8)
    assert judge(stage, target).verdict.name == "breach"


class OtherChannels:
    """The healthy candidate, fed BGR where the reference is fed RGB."""

    def __init__(self, inner: Engine) -> None:
        self.info = inner.info
        self._inner = inner

    def run(self, batch: Batch) -> Batch:
        return self._inner.run(np.ascontiguousarray(batch[:, ::-1]))


@pytest.mark.parametrize("stage", STAGES)
def test_bgr_on_one_side_is_a_breach(judge: Callable[..., CellResult], stage: str) -> None:
    onnx = find_entry("onnx")
    register(replace(onnx, name="bgr", open=lambda *asked: OtherChannels(onnx.open(*asked))))
    assert judge(stage, engine="bgr").verdict.name == "breach"


@pytest.mark.parametrize("stage", STAGES)
def test_torch_against_itself_is_the_noise_floor(
    judge: Callable[..., CellResult], stage: str
) -> None:
    result = judge(stage, engine="torch")
    assert result.verdict.name == "equivalent", result.verdict.reason


def test_file_of_the_other_stage_cannot_pass(
    judge: Callable[..., CellResult],
    healthy: dict[str, onnx.ModelProto],
    save: Callable[[onnx.ModelProto], Path],
) -> None:
    result = judge("classification", save(healthy["detection"]))
    assert result.verdict.name == "inconclusive"
    assert "for detection, not for classification" in result.verdict.reason
