"""Whether the gate stands behind a file: the newest report decides, and a breach stays one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pillsnap.config.runtime import Runtime
from pillsnap.report.standing import Standing
from tests.report.report_folder import CPU, CUDA, DRIFT, SHA, SLOW, Reports


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path)


def test_without_a_report_nothing_is_approved(reports: Reports) -> None:
    reports.add("equivalent", sha256="0" * 64)
    reports.add("equivalent", stage="detection")
    reports.add("equivalent", provider=CUDA)
    assert not reports.approved
    assert reports.standing().reason == f"no report of the gate has passed it on {CPU}"
    assert reports.standing(CUDA).approved
    assert reports.standing(stage="detection").approved
    assert not Reports(reports.folder / "none").approved


def test_a_file_with_other_weights_beside_it_is_another(reports: Reports) -> None:
    reports.add("breach", "full", weights={"w.bin": "b" * 64})
    reports.add("equivalent", weights={"w.bin": "a" * 64})
    assert reports.standing(weights={"w.bin": "a" * 64}).approved
    found = reports.standing(weights={"w.bin": "b" * 64})
    assert found == Standing(False, "98.json: fp32-full, breach")
    for weights in ({"w.bin": "c" * 64}, {"v.bin": "a" * 64}, {}):
        found = reports.standing(weights=weights)
        assert found == Standing(False, "97.json: of other weights in the files beside it")


@pytest.mark.parametrize("verdict", ["breach", "inconclusive"])
def test_the_newest_report_decides(reports: Reports, verdict: str) -> None:
    reports.add("within_tolerance")
    assert reports.standing() == Standing(True, "98.json")
    reports.add(verdict, "full", config="other")
    assert reports.standing() == Standing(False, f"97.json: fp32-full, {verdict}")
    reports.add("equivalent")
    assert reports.approved


def test_a_breach_outlasts_later_passes_of_the_same(reports: Reports) -> None:
    reports.add("equivalent")
    reports.add("breach", "full")
    reports.add("equivalent")
    reports.add("equivalent", "coverage")
    assert not reports.approved
    assert reports.standing().reason.startswith("97.json: fp32-full, breach, with the same data")


@pytest.mark.parametrize(
    "change", [{"config": "other"}, {"data": "other"}, {"checkpoint": "other"}, {"sha256": "other"}]
)
def test_what_has_changed_since_is_judged_anew(reports: Reports, change: dict[str, str]) -> None:
    reports.add("breach", "full", **change)
    reports.add("equivalent")
    assert reports.approved


def test_images_that_are_others_under_the_same_names_are_other_data(reports: Reports) -> None:
    reports.add("breach", "full", content="a")
    reports.add("equivalent", "full", content="a")
    assert not reports.approved
    reports.add("equivalent", "full", content="b")
    reports.add("equivalent")
    assert reports.approved


def test_a_hash_that_is_not_known_tells_of_no_change(reports: Reports) -> None:
    reports.add("breach", "full", data=None)
    reports.add("equivalent")
    assert not reports.approved


def test_too_slow_once_is_not_too_slow_for_good(reports: Reports) -> None:
    reports.add("breach", breaches=[SLOW])
    assert not reports.approved
    reports.add("equivalent")
    assert reports.approved
    reports.add("breach", "full", breaches=[SLOW, DRIFT])
    reports.add("equivalent")
    assert not reports.approved


def test_a_breach_before_it_was_known_what_ran_counts_everywhere(reports: Reports) -> None:
    reports.add("breach", provider=None, breaches=[])
    reports.add("equivalent")
    reports.add("equivalent", provider=CUDA)
    assert not reports.approved
    assert not reports.standing(CUDA).approved


def test_a_run_that_was_broken_off_tells_by_its_breaches_alone(reports: Reports) -> None:
    reports.add("equivalent", complete=False)
    assert not reports.approved
    reports.add("equivalent")
    reports.add("inconclusive", complete=False)
    assert reports.approved
    reports.add("breach", complete=False)
    assert not reports.approved


def test_reports_of_the_same_second_must_all_pass(reports: Reports) -> None:
    reports.add("equivalent", day=9)
    reports.add("inconclusive", "full", day=9)
    assert not reports.approved


def test_a_file_of_lower_precision_is_held_to_its_own_profile(reports: Reports) -> None:
    made = {"precision": "int8"}
    reports.add("within_tolerance", precision="int8", quantized=made)
    reports.add("breach", quantized=made)  # as a float32 candidate
    assert reports.approved
    reports.add("breach", precision="int8", quantized=made)
    assert not reports.approved


@pytest.mark.parametrize(
    "text", [f'"{SHA}"', f'{{"{SHA}": ', f'{{"cells": 5, "{SHA}": 1}}', "[" * 9_000 + SHA]
)
def test_what_is_no_report_approves_nothing(reports: Reports, text: str) -> None:
    (reports.folder / "odd.json").write_text(text)
    assert not reports.approved
    reports.add("equivalent")
    assert reports.approved


def test_a_file_changed_in_part_is_no_report(reports: Reports) -> None:
    reports.add("equivalent")
    (path,) = reports.folder.iterdir()
    report = json.loads(path.read_text())
    for change in ({"execution": {"providers": []}}, {"breaches": [5]}, {"quantized": "int8"}):
        path.write_text(json.dumps({**report, "cells": [{**report["cells"][0], **change}]}))
        assert not reports.approved


def test_a_file_is_approved_as_it_was_optimised(reports: Reports) -> None:
    reports.add("breach")
    reports.add("equivalent", off=["Pad_Fusion", "ConvBNFusion"])
    reports.add("equivalent", level="ORT_DISABLE_ALL")
    both = Runtime(disabled_optimizers=("ConvBNFusion", "Pad_Fusion"))
    assert reports.standing(runtime=both).approved
    assert reports.standing(runtime=Runtime("ORT_DISABLE_ALL")).approved
    assert not reports.standing(runtime=Runtime("ORT_ENABLE_BASIC")).approved
    assert not reports.approved
    none = f"no report of the gate has passed it on {CPU} without PadFusion"
    assert reports.standing(runtime=Runtime(disabled_optimizers=("PadFusion",))).reason == none


def test_earlier_reports_say_nothing_of_optimisation(reports: Reports) -> None:
    path = reports.add("equivalent")
    report = json.loads(path.read_text())
    del report["environment"]
    path.write_text(json.dumps(report))
    assert reports.approved
    assert reports.standing(runtime=Runtime("ORT_DISABLE_ALL")).approved
    assert not reports.standing(runtime=Runtime(disabled_optimizers=("PadFusion",))).approved
