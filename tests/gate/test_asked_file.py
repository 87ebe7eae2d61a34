"""The verdict is about the file that was asked for: its precision, its free axes, its speed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pillsnap.compare.result import CellResult
from pillsnap.compare.verdict import BATCH
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.export import export_classification_onnx, export_detection_onnx
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.run import GateRun

Judge = Callable[..., list[CellResult]]


@pytest.fixture(scope="module")
def small(config: Config) -> Config:
    """Four images of a stage, in one batch."""
    compare = replace(config.compare, sample_count=4, batch_size=4)
    return replace(config, export=replace(config.export, compare=compare))


@pytest.fixture
def judge(small: Config, tmp_path: Path) -> Judge:
    """The gate's judgement of one stage, by the path every run takes, less pytest."""

    def judge(stage: str, candidate: onnx.ModelProto | None = None, **how: Any) -> list[CellResult]:
        config = how.pop("config", small)
        if candidate is not None:
            onnx.save(candidate, tmp_path / "candidate.onnx")
            how["candidates"] = {stage: tmp_path / "candidate.onnx"}
        run = GateRun(
            config, Selection(stages=(stage,), **how), threads=1, run_dir=tmp_path / "run"
        )
        return judge_mode(run, "smoke")

    return judge


def classifier(config: Config) -> onnx.ModelProto:
    return onnx.load(export_classification_onnx(config).path)


def fed_through(model: onnx.ModelProto, **constants: Any) -> onnx.ModelProto:
    """The model with a Reshape to `shape` in front of it."""
    fed = model.graph.input[0].name
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == fed:
                node.input[index] = "reshaped"
    shape = numpy_helper.from_array(np.array(constants["shape"], np.int64), "baked")
    model.graph.initializer.append(shape)
    node = helper.make_node("Reshape", [fed, "baked"], ["reshaped"], name="/window/Reshape")
    model.graph.node.insert(0, node)
    return model


def alone_scaled(model: onnx.ModelProto, by: float) -> onnx.ModelProto:
    """The model with logits scaled where one image is alone."""
    (output,) = (value.name for value in model.graph.output)
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == output:
                node.output[index] = "unscaled"
    for name, value in (("first", 0), ("one", 1), ("axes", [0])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    for name, factor in (("by", by), ("as_is", 1.0)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(factor), name))
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["unscaled"], ["sizes"]),
            helper.make_node("Gather", ["sizes", "first"], ["count"]),
            helper.make_node("Equal", ["count", "one"], ["is_alone"]),
            helper.make_node("Where", ["is_alone", "by", "as_is"], ["factor"]),
            helper.make_node("Mul", ["unscaled", "factor"], [output]),
        ]
    )
    return model


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_float32_file_is_no_file_of_lower_precision(
    judge: Judge, small: Config, precision: str
) -> None:
    (result,) = judge("classification", classifier(small), precisions=(precision,))
    assert result.verdict.name == "breach"
    reason = result.verdict.reason
    for part in (f"no node of the candidate computes in {precision}", "16 compute nodes, in fp32"):
        assert part in reason
    # It may pass for what it is: what was asked for is wrong, not what it answers.
    assert "sha256" not in result.outcomes[0].candidate


def test_a_float16_file_is_judged_by_its_own_types(judge: Judge, small: Config) -> None:
    """The CPU has no kernels for it and computes in float32."""
    (made,) = judge("classification", precisions=("fp16",))
    assert made.verdict.name == "within_tolerance"
    found = onnx.load(made.outcomes[0].candidate["path"])
    (named,) = judge("classification", found, precisions=("fp16",))
    assert named.verdict == made.verdict
    assert named.execution is not None
    assert named.execution["precision"]["compute_nodes_by_type"] == {"fp16": 16}
    (refused,) = judge("classification", found, precisions=("int8",))
    assert refused.verdict.name == "breach"
    assert "16 compute nodes, in fp16" in refused.verdict.reason


def test_a_healthy_file_runs_at_other_sizes(judge: Judge) -> None:
    (photos,), (scenes,) = judge("classification"), judge("detection")
    assert photos.verdict.name == scenes.verdict.name == "equivalent"
    assert photos.batching is not None
    assert photos.batching["batch_sizes"] == [4, 1, 2, 3]
    assert photos.batching["input_sizes"] == [[96, 96]]
    assert photos.batching["images"] == 4
    assert 0 <= photos.batching["drift"]["prob_err_max"] < 1e-5
    assert scenes.batching is not None
    assert scenes.batching["input_sizes"] == [[640, 640], [672, 704]]
    assert scenes.batching["drift"].keys() == {"raw_box_err_px", "raw_score_err"}
    assert 0.1 < scenes.metrics["score_exactness"] < 4


def test_an_axis_that_is_free_in_name_alone_is_a_breach(judge: Judge, small: Config) -> None:
    (result,) = judge("classification", fed_through(classifier(small), shape=[4, 3, 96, 96]))
    assert result.verdict.name == "breach"
    for part in (
        "does not run with 1 image of 96 x 96",
        "the batch axis N",
        "candidate.onnx",
        "/window/Reshape",
        "Input shape:{1,3,96,96}, requested shape:{4,3,96,96}",
    ):
        assert part in result.verdict.reason
    # The file itself is at fault, whatever it is verified as.
    assert "sha256" in result.outcomes[0].candidate


def test_a_size_that_is_free_in_name_alone_is_a_breach(judge: Judge, small: Config) -> None:
    model = onnx.load(export_detection_onnx(small).path)
    (result,) = judge("detection", fed_through(model, shape=[-1, 3, 640, 640]))
    assert result.verdict.name == "breach"
    for part in ("1 image of 672 x 704", "that H and W may be of any size", "/window/Reshape"):
        assert part in result.verdict.reason


def test_another_answer_alone_is_a_breach_of_the_profile(judge: Judge, small: Config) -> None:
    other = alone_scaled(classifier(small), 0.5)
    del other.metadata_props[:]  # its graph is another, as of another exporter's
    (result,) = judge("classification", other)
    assert result.verdict.name == "breach"
    (breach,) = result.verdict.breaches
    assert (breach.figure, breach.where) == ("prob_err_max", BATCH)
    assert result.metrics["prob_err_max"] < 1e-5 < breach.value
    assert result.verdict.looser == "practical"
    (result,) = judge("classification", alone_scaled(classifier(small), float("nan")))
    assert result.verdict.name == "breach"
    assert "an output that is not finite" in result.verdict.reason


def test_a_batch_size_that_is_fixed_in_the_file_is_not_left(small: Config, judge: Judge) -> None:
    shape = replace(small.export.input_shape, classification=(4, 3, 96, 96))
    export = replace(small.export, dynamic_axes=False, input_shape=shape)
    (result,) = judge("classification", config=replace(small, export=export))
    assert result.verdict.name == "equivalent"
    assert result.batching is None
    # That one image could not be timed is said.
    assert result.performance is not None
    assert "[4, 3, 96, 96]" in result.performance["single_problem"]


def test_int8_depends_on_the_batch_and_is_held_against_float32(judge: Judge, small: Config) -> None:
    both = {"precisions": ("fp32", "int8"), "int8_method": "dynamic"}
    for how, compared in ((both, "batches"), ({**both, "precisions": ("int8",)}, "alone")):
        *_, result = judge("classification", **how)
        assert result.cell.precision == "int8"
        assert result.verdict.name == "within_tolerance"
        assert result.batching is not None
        assert 1e-4 < result.batching["drift"]["prob_err_max"] < 0.2
        assert result.performance is not None
        assert result.performance["fp32_compared"] == compared
        assert result.performance["speedup_over_fp32"] > 0
