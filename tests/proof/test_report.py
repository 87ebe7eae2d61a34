"""The report and the table of the proof, from findings made up for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.cells import STAGES
from pillsnap.config.settings import Config, Export, Paths
from pillsnap.core.errors import PillsnapError
from pillsnap.proof.catalogue import FAULTS, find_fault
from pillsnap.proof.explain_faults import EXPLAINABLE, expected_kind
from pillsnap.proof.fault import GROUPS, Fault
from pillsnap.proof.healthy import HEALTHY
from pillsnap.proof.scores import build_report, write_report
from pillsnap.proof.stage_faults import STAGE_FAULTS
from pillsnap.proof.table import render
from pillsnap.proof.trial import PROFILES, SIZES, Trial


def trial(fault: Fault, size: str, profile: str, caught: bool, *figures: str) -> dict[str, Any]:
    verdict = "breach" if caught else "within_tolerance"
    facts = (fault.name, fault.group, fault.stage, fault.magnitude, fault.blind, size, profile)
    return Trial(*facts, 32, verdict, caught, figures, "why", 0.1).as_dict()


def trials() -> list[dict[str, Any]]:
    """Strict catches all but what it is blind to, at coverage; practical only the boxes."""
    return [
        trial(fault, size, profile, caught, *(("prob_err_max", "mse_p99") if caught else ()))
        for fault in FAULTS
        for size in SIZES
        for profile in PROFILES
        for caught in [
            fault.group == "boxes"
            if profile == "practical"
            else fault.blind is None and size == "coverage"
        ]
    ]


def healthy(alarms: int) -> list[dict[str, Any]]:
    return [
        {"id": case.id, "alarms": ["mse 1 > 0"] if index < alarms else []}
        for index, case in enumerate(HEALTHY)
    ]


def smallest() -> list[dict[str, Any]]:
    return [
        {"stage": stage, "of_any": scale} for stage, scale in zip(STAGES, (1e-3, None), strict=True)
    ]


def located() -> list[dict[str, Any]]:
    return [{"stage": stage, "nodes": 50, "named": 49} for stage in STAGES]


def staged() -> list[dict[str, Any]]:
    """The last stage is wrong."""
    last = STAGE_FAULTS[-1]
    return [
        {"fault": fault.name, "guilty": fault.guilty, "share": 33.0, "right": fault is not last}
        for fault in STAGE_FAULTS
    ]


def explained() -> list[dict[str, Any]]:
    """All causes are right but the first."""
    return [
        {"stage": fault.stage, "fault": fault.name, "stated": None, "right": index > 0}
        for index, fault in enumerate(EXPLAINABLE)
    ]


def built(*parts: list[dict[str, Any]], stages: Sequence[str] = STAGES) -> dict[str, Any]:
    """The report of a proof in which everything could be tried."""
    return build_report(stages, *parts, [])


def test_the_catalogue_is_whole() -> None:
    assert len(FAULTS) >= 40
    assert len({fault.id for fault in FAULTS}) == len(FAULTS)
    assert {fault.group for fault in FAULTS} == set(GROUPS)
    assert {fault.stage for fault in FAULTS} == set(STAGES)
    # At most 3 of 40.
    assert 40 * sum(fault.blind is not None for fault in FAULTS) <= 3 * len(FAULTS)
    assert all(fault.magnitude for fault in FAULTS)
    # What a file says of itself and is not: its precision, its free axes.
    assert {
        *("computes in fp16", "computes in int8"),
        *("batch axis N may be of any size", "H and W may be of any size"),
    } <= {fault.refusal for fault in FAULTS}
    assert find_fault(FAULTS[3].id) is FAULTS[3]


def test_healthy_exports_are_many_and_various() -> None:
    assert {case.exporter for case in HEALTHY} == {"torchscript", "dynamo"}
    assert {case.opset for case in HEALTHY} == {17, 18}
    assert {case.batch for case in HEALTHY} == set(range(1, 10))
    for stage, least in (("classification", 4), ("detection", 3)):
        assert len({case.model for case in HEALTHY if case.stage == stage and case.model}) >= least
    assert any(case.size and case.size[0] % 2 for case in HEALTHY)


def test_the_report_counts_what_was_caught() -> None:
    report = built(trials(), healthy(2), smallest(), located(), staged(), explained())
    boxes = sum(fault.group == "boxes" for fault in FAULTS)
    blind = [fault for fault in FAULTS if fault.blind]
    assert report["complete"]
    assert report["faults"] == len(FAULTS)
    assert report["caught_strict"] == len(FAULTS) - len(blind)
    assert report["caught_practical"] == report["caught_practical_smoke"] == boxes
    assert report["caught_strict_smoke"] == 0
    assert report["false_alarms"] == 2
    assert (report["nodes"], report["located"]) == (100, 98)
    assert report["causes"] == len(EXPLAINABLE)
    assert report["causes_right"] == len(EXPLAINABLE) - 1
    assert (report["stage_faults"], report["stages_right"]) == (
        len(STAGE_FAULTS),
        len(STAGE_FAULTS) - 1,
    )
    assert report["smallest_weight_scale"] == {STAGES[0]: 1e-3, STAGES[1]: None}
    assert sum(row["faults"] for row in report["groups"]) == len(FAULTS)
    assert report["caught_by"] == dict.fromkeys(
        ("mse_p99", "prob_err_max"), report["caught_strict"]
    )
    uncaught = {(row["stage"], row["fault"]): row["blind"] for row in report["uncaught"]}
    assert uncaught == {(fault.stage, fault.name): fault.blind for fault in blind}
    assert len(report["trials"]) == 4 * len(FAULTS)


def test_a_cause_is_expected_of_faults_that_something_undoes() -> None:
    kinds = {fault.id: expected_kind(fault) for fault in FAULTS}
    assert kinds["classification-bgr_for_rgb"] == "preprocessing"
    assert kinds["detection-dead_head"] == kinds["detection-half_weights"] == "weights"
    assert kinds["classification-half_arithmetic"] == "precision"
    assert kinds["detection-resize_semantics"] == "conversion"
    for name in ("detection-nms_iou_changed", "classification-saturated_out_of_reach"):
        assert kinds[name] is None


@pytest.mark.parametrize("lacking", range(6))
def test_a_part_of_the_proof_is_not_complete(lacking: int) -> None:
    parts = [trials(), healthy(0), smallest(), located(), staged(), explained()]
    parts[lacking].pop()
    assert not built(*parts)["complete"]


def test_a_proof_is_of_the_stages_that_there_are() -> None:
    stage = STAGES[0]
    parts = [
        [each for each in part if each["stage"] == stage]
        for part in (trials(), smallest(), located(), explained())
    ]
    faults, scales, nodes, causes = parts
    exports = [{"id": case.id, "alarms": []} for case in HEALTHY if case.stage == stage]
    report = built(faults, exports, scales, nodes, [], causes, stages=[stage])
    assert report["complete"]
    assert report["stages"] == [stage]
    assert report["faults"] == sum(fault.stage == stage for fault in FAULTS)
    assert not built(faults, exports, scales, nodes, [], causes)["complete"]


def test_what_a_model_has_nothing_of_is_named_and_does_not_lack() -> None:
    lacking = FAULTS[0]
    tried = [
        each for each in trials() if (each["fault"], each["stage"]) != (lacking.name, lacking.stage)
    ]
    parts = [tried, healthy(0), smallest(), located(), staged(), explained()]
    assert not built(*parts)["complete"]
    why = {"kind": "trial", "fault": lacking.name, "stage": lacking.stage, "why": "no such node"}
    report = build_report(STAGES, *parts, [why])
    assert report["complete"]
    assert report["faults"] == len(FAULTS) - 1
    assert f"not tried: {lacking.stage} {lacking.name}: no such node" in render(report)
    unscaled = [*parts[:2], smallest()[1:], *parts[3:]]
    assert not build_report(STAGES, *unscaled, [why])["complete"]
    unjudged = {**why, "kind": "smallest", "why": "exactness is not judged"}
    assert build_report(STAGES, *unscaled, [why, unjudged])["complete"]


def test_the_table_shows_rates_and_what_was_missed() -> None:
    report = built(trials(), healthy(0), smallest(), located(), staged(), explained())
    lines = list(render(report))
    rows = {line.split()[0]: line.split() for line in lines}
    assert rows["all"][1:4] == [
        str(report[key]) for key in ("faults", "caught_strict", "caught_practical")
    ]
    assert set(GROUPS) <= rows.keys()
    blind = [fault for fault in FAULTS if fault.blind]
    assert sum(line.startswith("uncaught:") for line in lines) == len(blind)
    assert all(f"  {fault.blind}" in lines for fault in blind)
    assert f"healthy exports: {len(HEALTHY)}, false alarms: 0" in lines
    count = len(EXPLAINABLE)
    stages = len(STAGE_FAULTS)
    words = f"98 of 100 faulty nodes named, {stages - 1} of {stages} stages, {count - 1} of {count}"
    assert f"diagnosis: {words} causes" in lines
    last, first = STAGE_FAULTS[-1], EXPLAINABLE[0]
    assert f"wrong stage: {last.name}: {last.guilty} has 33 %" in lines
    assert f"wrong cause: {first.stage} {first.name}: None" in lines
    assert any(line.endswith(f"{STAGES[0]}: 1.0e-03") for line in lines)
    assert any(line.endswith(f"{STAGES[1]}: none that was tried") for line in lines)


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    config = Config(Paths(tmp_path))
    report = built(trials(), healthy(0), smallest(), located(), staged(), explained())
    path = write_report(report, config)
    assert path == tmp_path / "export" / "proof_report.json"
    assert json.loads(path.read_text()) == report
    (tmp_path / "file").write_text("")
    blocked = replace(config, export=Export(out_dir=tmp_path / "file"))
    with pytest.raises(PillsnapError, match="cannot write"):
        write_report(report, blocked)
