"""A handful of faults through the gate: the quick part of `pytest -m proof`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from pillsnap.compare.verdict import GRAPH, VerdictName
from pillsnap.config.cells import STAGES
from pillsnap.config.settings import Config, Paths
from pillsnap.engines.torch.checkpoints import letterbox_transform
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.preprocess import preprocess
from pillsnap.proof.catalogue import find_fault
from pillsnap.proof.exporting import traced
from pillsnap.proof.fault import Bench, Injection, NotApplicable
from pillsnap.proof.healthy import HEALTHY, find_alarms
from pillsnap.proof.onnx_edits import insert_after
from pillsnap.proof.preprocessing import feed, reread
from pillsnap.proof.roles import classifier_head, find, middle, multiplied
from pillsnap.proof.runtime import restamped
from pillsnap.proof.smallest import find_smallest
from pillsnap.proof.trial import Trial, alarms, judge_injection, try_fault
from pillsnap.proof.weights import scale_weight
from pillsnap.proof.wrong_preprocessing import letterboxed
from tests.proof.conftest import MakeBench
from tests.report.test_report import DETECTION, make_result


def by_profile(name: str, bench_of: MakeBench) -> dict[str, Trial]:
    fault = find_fault(name)
    trials = try_fault(fault, bench_of(fault.stage), "smoke", threads=1)
    return {trial.profile: trial for trial in trials}


@pytest.mark.parametrize("stage", STAGES)
def test_without_a_fault_the_path_of_faults_is_quiet(stage: str, bench_of: MakeBench) -> None:
    judged = judge_injection(Injection(), bench_of(stage), "smoke", threads=1, graph=True)
    assert {result.verdict.name for result in judged.values()} == {"equivalent"}


def insert_identity(bench: Bench) -> Injection:
    model = bench.model()
    for tensor in (model.graph.input[0].name, find(model, "Conv")[0].output[0], "logits"):
        identity = helper.make_node("Identity", ["x"], ["y"], name=f"control/{tensor}")
        insert_after(model, tensor, identity)
    return Injection(bench.save(model))


@pytest.mark.parametrize(
    "inject",
    [
        lambda bench: reread(partial(preprocess, transform=bench.transform)),
        lambda bench: feed(lambda batch: batch[:, ::-1][:, ::-1]),
        lambda bench: traced(bench, lambda module: None),
        insert_identity,
        lambda bench: scale_weight(bench, middle(bench.model()), 0),
        lambda bench: restamped(bench),
    ],
    ids=["reread", "feed", "traced", "insert", "change", "restamp"],
)
def test_ways_of_injecting_are_no_faults_by_themselves(
    inject: Callable[[Bench], Injection], bench_of: MakeBench
) -> None:
    bench = bench_of("classification")
    judged = judge_injection(inject(bench), bench, "smoke", threads=1)
    assert {result.verdict.name for result in judged.values()} == {"equivalent"}


def test_the_letterbox_that_faults_start_from_is_the_right_one(demo: Config) -> None:
    transform = letterbox_transform(demo)
    assert demo.data.val.combo is not None
    for path in sorted(demo.data.val.combo.images.glob("*.png"))[:8]:
        image = read_image(path)
        assert np.array_equal(letterboxed(image, transform), preprocess(image, transform))


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("classification-bgr_for_rgb", "top1_mismatch_rate"),
        ("classification-exif_ignored", "top1_mismatch_rate"),
        ("classification-train_mode", "mse_p99"),
        ("classification-half_overflow", "non_finite"),
        ("classification-saturated_out_of_reach", GRAPH),
        ("classification-answers_out_of_order", "top1_mismatch_rate"),
        ("classification-stale_latest", "refused"),
        ("classification-wrong_class_map", "refused"),
        ("classification-report_of_another_model", "refused"),
        ("detection-nms_iou_changed", "refused"),
    ],
)
def test_either_profile_catches(name: str, figure: str, bench_of: MakeBench) -> None:
    found = by_profile(name, bench_of)
    for profile, trial in found.items():
        assert trial.caught, profile
        assert figure in trial.figures, profile


def test_a_tensor_off_by_a_per_mille_is_caught_by_strict_alone(bench_of: MakeBench) -> None:
    found = by_profile("classification-tensor_off_1_per_mille", bench_of)
    assert found["strict"].figures == ("logits_exactness", "prob_err_max")
    assert not found["practical"].caught
    # What passed is shown with its figures.
    assert "prob_err_max" in found["practical"].reason


def test_figures_outside_strict_are_alarms(bench_of: MakeBench) -> None:
    bench = bench_of("classification")
    wrong = scale_weight(bench, middle(bench.model()), 1e-3)
    judged = judge_injection(wrong, bench, "smoke", threads=1)
    exactness, error = alarms(judged["strict"], bench.config)
    assert exactness.startswith("logits_exactness")
    assert error.startswith("prob_err_max")
    refused = find_fault("classification-stale_latest").inject(bench)
    judged = judge_injection(refused, bench, "smoke", threads=1)
    (alarm,) = alarms(judged["strict"], bench.config)
    assert "checkpoint_sha256" in alarm


def test_without_signal_what_the_nms_keeps_is_no_alarm() -> None:
    row = DETECTION["per_stride"][0]
    metrics = {**DETECTION, "unmatched_rate": 0.3, "per_stride": [{**row, "box_exactness": 9.0}]}
    config = Config(Paths(Path("exp")))

    def found(verdict: VerdictName) -> list[str]:
        return alarms(make_result("detection", verdict, metrics=metrics), config)

    inexact, unmatched = "box_exactness 9 > 8 (stride 8)", "unmatched_rate 0.3 > 0.01"
    assert found("inconclusive") == [inexact]
    assert found("breach") == [inexact, unmatched]


def test_the_smallest_scale_is_caught_and_a_smaller_one_is_not(bench_of: MakeBench) -> None:
    bench = bench_of("classification")
    found = find_smallest(bench, threads=1)
    assert list(found.by_tensor) == multiplied(bench.model())
    assert classifier_head(bench.model()).input[1] in found.by_tensor
    name, scale = max(found.by_tensor.items(), key=lambda each: each[1] or math.inf)
    assert found.of_any == scale is not None
    limits = replace(bench.config.compare.tolerances.strict, exactness=None)
    tolerances = replace(bench.config.compare.tolerances, strict=limits)
    compare = replace(bench.config.compare, tolerances=tolerances)
    unjudged = replace(bench.config, export=replace(bench.config.export, compare=compare))
    with pytest.raises(NotApplicable, match="does not judge how exact"):
        find_smallest(replace(bench, config=unjudged), threads=1)
    # What was found without a run of the gate is what a run says.
    for factor, caught in ((1.0, True), (0.7, False)):
        judged = judge_injection(scale_weight(bench, name, factor * scale), bench, "smoke", 1)
        assert judged["strict"].verdict.failed is caught


def test_a_healthy_export_of_random_weights_raises_no_alarm(demo: Config, folder: Path) -> None:
    case = next(case for case in HEALTHY if case.model == "mobilenetv3_small_100")
    own = demo.exp_dir / "checkpoints" / "classification_best.pt"  # is not what is verified here
    named = replace(demo, classification=replace(demo.classification, checkpoint=own))
    found = find_alarms(case, named, folder, threads=1)
    assert (found["samples"], found["alarms"]) == (11, [])
    assert found["verdict"] == "inconclusive"
