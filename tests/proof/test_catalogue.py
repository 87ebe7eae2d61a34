"""A handful of faults through the gate: the quick part of `pytest -m proof`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillsnap.config import Config
from pillsnap.matrix import STAGES
from pillsnap.proof.catalogue import find_fault
from pillsnap.proof.fault import Injection
from pillsnap.proof.healthy import HEALTHY, find_alarms
from pillsnap.proof.trial import Trial, judge_injection, try_fault
from tests.proof.conftest import MakeBench


def by_profile(name: str, bench_of: MakeBench) -> dict[str, Trial]:
    fault = find_fault(name)
    trials = try_fault(fault, bench_of(fault.stage), "smoke", threads=1)
    return {trial.profile: trial for trial in trials}


@pytest.mark.parametrize("stage", STAGES)
def test_without_a_fault_the_path_of_faults_is_quiet(stage: str, bench_of: MakeBench) -> None:
    judged = judge_injection(Injection(), bench_of(stage), "smoke", threads=1)
    assert {result.verdict.name for result in judged.values()} == {"equivalent"}


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("classification-bgr_for_rgb", "top1_mismatch_rate"),
        ("classification-exif_ignored", "top1_mismatch_rate"),
        ("classification-train_mode", "mse_p99"),
        ("classification-half_overflow", "non_finite"),
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
    assert found["strict"].figures == ("prob_err_max",)
    assert not found["practical"].caught
    # What passed is shown with its figures.
    assert "prob_err_max" in found["practical"].reason


def test_a_healthy_export_of_random_weights_raises_no_alarm(demo: Config, folder: Path) -> None:
    case = next(case for case in HEALTHY if case.model == "mobilenetv3_small_100")
    found = find_alarms(case, demo, folder, threads=1)
    assert (found["samples"], found["alarms"]) == (11, [])
    assert found["verdict"] == "inconclusive"
