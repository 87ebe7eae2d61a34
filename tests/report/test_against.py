"""A report against an earlier one: what got worse beyond its noise is named, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.detection import DetectionRecorder
from pillsnap.compare.figures import Metrics
from pillsnap.compare.figures.classification import classification_figures
from pillsnap.compare.figures.detection import detection_figures
from pillsnap.compare.outcome import Outcome
from pillsnap.compare.records import Columns, write_records
from pillsnap.config.settings import Config, Nms, Paths
from pillsnap.core.errors import PillsnapError
from pillsnap.data.datasets import Sample
from pillsnap.data.labels import Box
from pillsnap.pipeline.transforms import Geometry
from pillsnap.report import build_report
from pillsnap.report.against import Comparison, compare_reports
from pillsnap.report.against.command import main
from pillsnap.report.against.earlier import find_earlier, read_earlier
from pillsnap.report.against.speed import speed_changes
from pillsnap.report.evidence import Evidence, find_evidence
from pillsnap.report.page import render_page
from tests.report.test_page import NONE, read
from tests.report.test_report import CLASSES, CLASSIFICATION, DETECTION, facts, make_result

COUNT = 40
LABELS = [index % 5 for index in range(COUNT)]
LOGITS = np.eye(5, dtype=np.float32)[LABELS] * 4
RANDOM = np.random.default_rng(0)
NOISE = RANDOM.standard_normal(LOGITS.shape).astype(np.float32)

ROWS = np.zeros((COUNT, 84, 7), np.float32)
ROWS[:, 3] = (4, 4, 24, 24, 0.9, 0, 1)
ROWS[:, 40] = (30, 10, 44, 40, 0.8, 0, 1)


def photos(cand: np.ndarray) -> tuple[Columns, Metrics]:
    samples = [Sample(f"{n:02}.png", Path("x"), label) for n, label in enumerate(LABELS)]
    columns = {**ClassificationRecorder().columns(samples, [], LOGITS, cand), **contents()}
    found = classification_figures(columns, 5).metrics
    own = {"logits_exactness": 1.0, "logits_rounding": 1e-6, "precision_bits": 20.0}
    return columns, {**CLASSIFICATION, **found, **own, **CLASSES, "worst_classes": []}


def scenes(cand: np.ndarray) -> tuple[Columns, Metrics]:
    boxes = (Box(0, 14 / 64, 14 / 64, 20 / 64, 20 / 64), Box(0, 37 / 64, 25 / 64, 14 / 64, 30 / 64))
    samples = [Sample(f"{n:02}.png", Path("x"), None, boxes) for n in range(COUNT)]
    recorder = DetectionRecorder((8, 16, 32), (64, 64), Nms(conf_threshold=0.25))
    geometries = [Geometry(ratio=1.0, left=0, top=0, width=64, height=64)] * COUNT
    columns = {**recorder.columns(samples, geometries, ROWS, cand), **contents()}
    found = detection_figures(columns, (8, 16, 32), 100, 0).metrics
    for row in found["per_stride"]:
        row.update(DETECTION["per_stride"][0] | row)
    return columns, {**DETECTION, **found, **CLASSES}


def contents() -> Columns:
    digests = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(COUNT))
    return {"content": np.frombuffer(digests, np.uint8).reshape(COUNT, 32)}


class Runs:
    """Reports of a folder, each with its records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = Config(paths=Paths(folder), source=folder / "config.yaml")

    def add(self, name: str, *of: tuple[Columns, Metrics], **changes: Any) -> Path:
        run = f"2025013{len(name)}-235959-nogit-{name}"
        results = []
        for columns, metrics in of:
            stage = "classification" if "label" in columns else "detection"
            result = make_result(stage, metrics=metrics, samples=COUNT)
            records = self.folder / "runs" / run / "records" / f"{result.cell.id}.records"
            write_records(records, columns)
            results.append(replace(result, **changes.pop("result", {})))
        report = build_report(results, self.config, facts(run=run, **changes))
        path = self.folder / "reports" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(report))
        return path

    def compare(self, old: Path, new: Path, *, records: bool = True) -> Comparison:
        reports = [json.loads(path.read_text()) for path in (old, new)]
        evidence = [
            find_evidence(report, path) if records else NONE
            for report, path in zip(reports, (old, new), strict=True)
        ]
        return compare_reports(*reports, old, *evidence)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def worse(found: Comparison) -> dict[str, Any]:
    return {change.figure: change for change in found.of("worse")}


def boxes(error: float = 1e-6, lost: int = 0, score: float = 0.0) -> tuple[Columns, Metrics]:
    cand = ROWS[..., :6].copy()
    cand[:, [3, 40], :4] += np.float32(error) * RANDOM.uniform(0.5, 1.5, (COUNT, 2, 4))
    cand[:lost, 40, 4] = score
    return scenes(cand.astype(np.float32))


def test_the_same_twice_is_no_worse(runs: Runs) -> None:
    of = [photos(LOGITS + 1e-6 * NOISE), boxes()]
    old, new = runs.add("one", *of), runs.add("another", *of)
    for records in (True, False):
        found = runs.compare(old, new, records=records)
        assert worse(found) == {} and found.of("better") == [] and not found.regressed
        assert len(found.of("same")) >= 10
        assert [str(each) for each in found.settings if not each.unchanged] == []
    # The same model on another machine, which sums in another order: noise as well.
    other = runs.add("elsewhere", photos(LOGITS - 4e-6 * NOISE), boxes(5e-6))
    found = runs.compare(old, other)
    assert worse(found) == {} and found.of("better") == []
    assert "within the numeric noise of a healthy float32 export" in str(
        next(each for each in found.changes if each.figure == "prob_err_max")
    )


def test_what_drifts_is_named_with_bounds_of_the_truth(runs: Runs) -> None:
    old = runs.add("old", photos(LOGITS + 1e-2 * NOISE), boxes(0.1))
    new = runs.add("newer", photos(LOGITS + 3e-2 * NOISE), boxes(0.4))
    found = worse(runs.compare(old, new))
    assert {"prob_err_max", "mse_mean", "raw_box_err_px", "iou_delta_p95"} <= found.keys()
    for figure, truth in (("prob_err_max", 3.0), ("mse_mean", 9.0), ("raw_box_err_px", 4.0)):
        low, high = found[figure].low, found[figure].high
        assert low is not None and high is not None
        assert low * 0.97 < truth < high * 1.03 and high < 1.5 * low, figure
    back = runs.compare(new, old)
    assert worse(back) == {} and {"prob_err_max", "mse_mean"} <= {
        each.figure for each in back.of("better")
    }
    # Samples of which nothing is known one by one: by size.
    found = worse(runs.compare(old, new, records=False))
    assert {"prob_err_max", "raw_box_err_px"} <= found.keys()
    assert found["prob_err_max"].how.startswith("2.9"), found["prob_err_max"]


def test_a_flip_by_chance_is_no_regression_and_many_are(runs: Runs) -> None:
    def flipped(count: int) -> tuple[Columns, Metrics]:
        cand = LOGITS.copy()
        cand[:count] = np.roll(cand[:count], 1, axis=1)
        return photos(cand)

    old, few, many = (
        runs.add(name, flipped(n)) for name, n in (("old", 1), ("few", 4), ("several", 9))
    )
    assert "top1_mismatch_rate" not in worse(runs.compare(old, few))
    found = worse(runs.compare(old, many))
    assert {"top1_mismatch_rate", "candidate_top1"} <= found.keys()
    assert "8 of 40 samples have more, 0 fewer" in found["top1_mismatch_rate"].how
    assert not {"top1_mismatch_rate", "candidate_top1"} & worse(runs.compare(many, old)).keys()
    # Without pairs the bounds of both rates must be apart: 1 and 9 of 40 are, 1 and 4 are not.
    assert "top1_mismatch_rate" not in worse(runs.compare(old, few, records=False))
    apart = runs.compare(runs.add("none", flipped(0)), many, records=False)
    assert "top1_mismatch_rate" in worse(apart)
    (top1,) = [each for each in apart.changes if each.figure == "candidate_top1"]
    assert (top1.outcome, top1.how) == ("not compared", "other samples, or no records of both")


def test_lost_boxes_lower_the_candidates_map(runs: Runs) -> None:
    old, one, many = (
        runs.add(name, boxes(lost=n)) for name, n in (("old", 0), ("one", 1), ("several", 12))
    )
    assert not {"unmatched_rate", "candidate_map_0_5"} & worse(runs.compare(old, one)).keys()
    found = worse(runs.compare(old, many))
    assert {"unmatched_rate", "candidate_map_0_5", "candidate_map_0_5_0_95"} <= found.keys()
    loss = found["candidate_map_0_5"]
    assert isinstance(loss.old, float) and isinstance(loss.new, float)
    assert loss.low is not None and loss.high is not None
    assert loss.low <= loss.new - loss.old <= loss.high < 0


def test_what_cannot_be_compared_says_why(runs: Runs) -> None:
    old = runs.add("old", photos(LOGITS))
    new = runs.add("newer", boxes(), photos(LOGITS))
    found = runs.compare(old, new)
    assert [str(each) for each in found.of("not compared")] == [
        "detection-onnx-auto-fp32-smoke: cell (in the new run alone)"
    ]
    found = runs.compare(new, old)
    assert "cell (in the old run alone)" in str(found.of("not compared")[0])
    report = json.loads(new.read_text())
    report["cells"][1].update(metrics={}, verdict="inconclusive")
    new.write_text(json.dumps(report))
    found = runs.compare(old, new)
    assert "figures (not measured in the new run)" in found.lines()[2]
    assert worse(found).keys() == {"verdict"}
    # A report that was named and has nothing in common shows no progress.
    alone = runs.add("alone", boxes())
    assert runs.compare(old, alone).regressed and worse(runs.compare(old, alone)) == {}


def test_other_images_are_no_pairs(runs: Runs) -> None:
    old = runs.add("old", photos(LOGITS + 1e-2 * NOISE))
    new = runs.add("newer", photos(LOGITS + 2e-2 * NOISE))
    assert worse(runs.compare(old, new)).keys() >= {"prob_err_max"}
    report = json.loads(new.read_text())
    report["provenance"]["data_fingerprint"] = dict.fromkeys(
        report["provenance"]["data_fingerprint"], "f" * 64
    )
    new.write_text(json.dumps(report))
    found = runs.compare(old, new)
    assert "prob_err_max" not in worse(found)  # less than twice as much
    assert any("data_fingerprint" in each.name and not each.unchanged for each in found.settings)


def test_settings_stand_side_by_side(runs: Runs) -> None:
    old, new = runs.add("old", boxes()), runs.add("newer", boxes(), threads=1)
    report = json.loads(new.read_text())
    report["stages"]["detection"]["postprocess"]["nms"]["iou_threshold"] = 0.7
    report["environment"]["packages"]["onnxruntime"] = "1.99"
    new.write_text(json.dumps(report))
    changed = {e.name: (e.old, e.new) for e in runs.compare(old, new).settings if not e.unchanged}
    assert changed.keys() == {
        "threads",
        "detection.postprocess.nms.iou_threshold",
        "packages.onnxruntime",
    }
    assert changed["threads"] == ("2", "1")
    assert changed["detection.postprocess.nms.iou_threshold"][1] == "0.7"


TIMES: dict[str, Any] = {
    **{"contended": False, "batch_size": 16, "batch_runs": 20, "single_runs": 20},
    **{"latency_p50_ms": 10.0, "latency_p95_ms": 12.0},
    **{"batch_latency_p50_ms": 100.0, "batch_latency_p95_ms": 130.0},
    **{"peak_memory_mib": 100.0, "peak_gpu_memory_mib": None, "model_size_mib": 10.0},
}
MACHINE = {"cpu": "one", "cores": 2, "gpu": None, "threads": 2}


@pytest.mark.parametrize(
    ("changes", "machine", "expected"),
    [
        ({}, {}, {}),
        ({"latency_p50_ms": 14.9, "batch_latency_p50_ms": 160.0}, {}, {}),  # busier
        (
            {"latency_p50_ms": 15.1, "batch_latency_p50_ms": 111.0},
            {"threads": 1},
            {"latency_p50_ms": "worse"},
        ),
        ({"latency_p50_ms": 15.1, "batch_latency_p50_ms": 109.0}, {}, {}),  # for half a second
        ({"latency_p50_ms": 24.1}, {}, {"latency_p50_ms": "worse"}),
        (
            {"latency_p50_ms": 11.1, "batch_latency_p50_ms": 170.0},
            {},
            {"batch_latency_p50_ms": "worse"},
        ),
        (
            {"latency_p50_ms": 7.0, "latency_p95_ms": 7.5, "batch_latency_p50_ms": 90.0},
            {},
            {"latency_p50_ms": "better"},
        ),
        ({"peak_memory_mib": 117.0}, {}, {}),
        ({"peak_memory_mib": 119.0}, {}, {"peak_memory_mib": "worse"}),
        ({"model_size_mib": 5.0}, {}, {"model_size_mib": "better"}),
        ({"model_size_mib": 10.2}, {"cpu": "another"}, {"model_size_mib": "worse"}),
        ({"batch_size": 8, "batch_latency_p50_ms": 900.0}, {}, {}),
        ({"single_runs": 2, "latency_p50_ms": 900.0}, {}, {}),
        ({"contended": True, "latency_p50_ms": 900.0}, {}, {}),
        ({"contended": True, "peak_memory_mib": 900.0}, {}, {"peak_memory_mib": "worse"}),
    ],
)
def test_speed_is_worse_beyond_its_spread_on_the_same_machine(
    changes: dict[str, Any], machine: dict[str, Any], expected: dict[str, str]
) -> None:
    old, new = (
        {"id": "cell", "performance": {**TIMES, **of}} for of in (dict[str, Any](), changes)
    )
    found = list(speed_changes(old, new, (MACHINE, {**MACHINE, **machine}), ({}, {})))
    judged = {each.figure: each.outcome for each in found if each.outcome in ("worse", "better")}
    assert judged == expected
    lacking = [each.how for each in found if each.outcome == "not compared"]
    if "cpu" in machine:
        assert lacking == ["another machine: cpu"] * 3
    elif "contended" in changes:
        assert lacking == ["workers shared the machine"] * 2
    elif "batch_size" in changes:
        assert lacking == ["batch_size 16 and 8"]
    else:
        assert lacking == (["fewer than 5 times were taken"] if "single_runs" in changes else [])


@pytest.mark.parametrize("busy", ["old", "new"])
def test_times_of_a_busy_machine_are_not_compared(busy: str) -> None:
    larger = {"peak_memory_mib": 900.0, "model_size_mib": 20.0}
    slow = {"id": "cell", "performance": {**TIMES, "latency_p50_ms": 900.0, **larger}}
    first, second = ({**MACHINE, "load": 4.5 if busy == each else 1.0} for each in ("old", "new"))
    old: dict[str, Any] = {"id": "cell", "performance": TIMES}
    found = list(speed_changes(old, slow, (first, second), ({}, {})))
    assert {each.figure for each in found if each.outcome == "worse"} == larger.keys()
    reasons = {each.how for each in found if each.outcome == "not compared"}
    assert reasons == {f"the machine was busy before the {busy} run: 4.5 processes a CPU"}
    quiet = list(speed_changes(old, slow, (MACHINE, {**MACHINE, "load": 1.0}), ({}, {})))
    assert "latency_p50_ms" in {each.figure for each in quiet if each.outcome == "worse"}


def test_speed_that_only_one_run_has_is_said() -> None:
    whole, none = {"id": "cell", "performance": TIMES}, {"id": "cell", "performance": None}
    partly = {
        "id": "cell",
        "performance": {**TIMES, "latency_p50_ms": None, "model_size_mib": None},
    }

    def lacking(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
        found = speed_changes(old, new, (MACHINE, MACHINE), ({}, {}))
        return {each.figure: each.how for each in found if each.outcome == "not compared"}

    assert lacking(none, whole) == {"speed, memory, size": "in the new run alone"}
    assert lacking(whole, none) == {"speed, memory, size": "in the old run alone"}
    assert lacking(none, none) == lacking(whole, whole) == lacking(partly, partly) == {}
    assert lacking(whole, partly) == {
        "latency_p50_ms": "in the old run alone",
        "model_size_mib": "in the old run alone",
    }
    (change,) = speed_changes(none, whole, (MACHINE, MACHINE), ({}, {}))
    assert str(change) == "cell: speed, memory, size (in the new run alone)"


def test_a_run_that_was_disturbed_is_no_slower(tmp_path: Path) -> None:
    result = make_result()
    report = build_report([result], Config(paths=Paths(tmp_path)), facts())
    outcomes = tmp_path / "outcomes"
    outcomes.mkdir()
    evidence = Evidence(tmp_path, lambda stage: None)
    assert evidence.fastest(report["cells"][0]) == {}
    longer = {"latency_p50_ms": 20.0, "batch_latency_p50_ms": 120.0}
    slow = {"id": "cell", "performance": {**TIMES, **longer}}
    for quick, expected in ((2, "same"), (0, "worse")):
        seconds = [0.01] * quick + [0.02] * (10 - quick)
        outcome = Outcome("x", timing={"alone": {"seconds": seconds}, "runs": [[16, 0.2], [3, 0]]})
        (outcomes / f"{result.cell.id}.json").write_text(outcome.as_json())
        fastest = evidence.fastest(report["cells"][0])
        assert fastest == {"latency": 10.0 if quick else 20.0, "batch_latency": 200.0}
        found = speed_changes(
            {"id": "cell", "performance": TIMES}, slow, (MACHINE, MACHINE), ({}, fastest)
        )
        assert next(found).outcome == expected


# ---------------------------------------------------------------------------- reports and commands


def test_the_newest_report_of_a_folder_that_fits_is_found(runs: Runs) -> None:
    first = runs.add("20250101", boxes())
    runs.add("20250102", photos(LOGITS))
    runs.add("20250103", boxes(), complete=False)
    (first.parent / "20250104.json").write_text("{}")
    (first.parent / "20250105.json").write_text("no JSON")
    runs.add("20250106f", boxes(), exit_code=1)  # a run that failed is no measure
    own = json.loads(runs.add("20250106x", boxes()).read_text())
    assert find_earlier(first.parent, own) == first
    # One with more of the cells, though others are newer.
    both = runs.add("2025010", boxes(), photos(LOGITS))
    own = json.loads(runs.add("20250106y", boxes(), photos(LOGITS)).read_text())
    assert find_earlier(first.parent, own) == both
    both.unlink()
    own = json.loads((first.parent / "20250106x.json").read_text())
    (first.parent / "20250106y.json").unlink()
    first.unlink()
    assert find_earlier(first.parent, own) is None
    assert find_earlier(first.parent / "nowhere", own) is None


def test_a_report_of_an_earlier_version_is_compared_as_far_as_it_goes(runs: Runs) -> None:
    old, new = runs.add("old", boxes()), runs.add("newer", boxes())
    report = json.loads(old.read_text())
    del report["against"], report["environment"]["driver"], report["provenance"]["data_sha256"]
    del report["cells"][0]["metrics"]["distinct_boxes"]
    old.write_text(json.dumps(report))
    assert not runs.compare(old, new).regressed
    assert not runs.compare(old, new, records=False).regressed
    assert main([str(old), str(new)]) == 0
    for content in ("{}", "[1]", '{"cells": [{}]}', "no JSON"):
        old.write_text(content)
        with pytest.raises(PillsnapError, match="no report"):
            read_earlier(old)


def test_what_cannot_be_compared_is_said(runs: Runs) -> None:
    old = runs.add("old", photos(LOGITS))
    columns, metrics = photos(LOGITS)
    lost = runs.add("newer", (columns, metrics | {"mse_p99": None}), complete=False, exit_code=3)
    found = [(each.figure, each.how) for each in runs.compare(old, lost).of("not compared")]
    assert found == [("mse_p99", "in the old run alone"), ("complete", "the new run is not")]
    for records in runs.folder.glob("runs/*/*.records"):
        records.unlink()
    nan = runs.add("newest1", (columns, metrics | {"mse_mean": float("nan")}))
    for records in runs.folder.glob("runs/*/*.records"):
        records.unlink()
    assert [each.figure for each in runs.compare(old, nan).of("worse")] == ["mse_mean"]


def test_pillsnap_compare_says_what_got_worse(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    old = runs.add("old", photos(LOGITS))
    new = runs.add("newer", photos(LOGITS + 0.1 * NOISE))
    assert main([str(old), str(new)]) == 0
    assert main([str(old), str(new), "--fail-on-regression", "--html"]) == 1
    assert main([str(new), str(old), "--fail-on-regression"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "WORSE classification-onnx-auto-fp32-smoke: prob_err_max 0 -> " in text
    run = json.loads(old.read_text())["provenance"]["run"]
    assert f"against run {run}: 3 got worse, 0 better" in text
    assert "nothing got worse, 3 better" in text
    page = read(new.with_suffix(".html").read_text(encoding="utf-8"))
    assert "Against an earlier report: 3 got worse" in " ".join(page.text.split())


def test_the_page_has_what_got_worse(runs: Runs) -> None:
    old, new = runs.add("old", boxes()), runs.add("newer", boxes(lost=12))
    found = runs.compare(old, new)
    report = {**json.loads(new.read_text()), "against": found.as_dict()}
    page = " ".join(read(render_page(report, Evidence(None, lambda stage: None))).text.split())
    for change in found.changes:
        assert f"{change.cell} {change.figure}" in page and change.outcome in page
    lost = Comparison(None, None, problem="no report in <here> has a cell of this run")
    page = read(render_page({**report, "against": lost.as_dict()}, NONE)).text
    assert "no report in <here> has a cell of this run" in page


def test_settings_of_what_one_run_alone_has_are_not_listed(runs: Runs) -> None:
    both = runs.add("both", boxes(), photos(LOGITS))
    one = runs.add("one", photos(LOGITS))
    for old, new in ((both, one), (one, both)):
        found = runs.compare(old, new)
        assert [str(each) for each in found.settings if not each.unchanged] == []
        assert any(each.name.startswith("data_fingerprint.classif") for each in found.settings)
        which = "new" if new is both else "old"
        assert f"cell (in the {which} run alone)" in str(found.of("not compared")[0])


def test_that_nothing_could_be_compared_is_the_last_line(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = runs.add("old", photos(LOGITS)), runs.add("newer", boxes())
    assert main([str(old), str(new), "--fail-on-regression"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    run = json.loads(old.read_text())["provenance"]["run"]
    assert text.endswith(f"against run {run}: nothing could be compared")
    assert "got worse" not in text
