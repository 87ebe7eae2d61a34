"""The report and the terminal's section, from results made by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from pillsnap.config import Config, Paths
from pillsnap.controller import finish
from pillsnap.datasets import Sample
from pillsnap.errors import PillsnapError
from pillsnap.gate import Breach, Verdict, VerdictName
from pillsnap.labels import Box
from pillsnap.ledger import CellResult, Ledger
from pillsnap.matrix import Cell
from pillsnap.report import SCHEMA_PATH, STAGE_KEYS, RunFacts, build_report, publish_report
from pillsnap.report.environment import PACKAGES
from pillsnap.report.policy import sample_policy
from pillsnap.report.table import WIDTH, render
from pillsnap.run import GateRun, Outcome, Selection

DIGEST = "0123456789abcdef" * 4

CLASSIFICATION = {"mse_mean": 2e-9, "mse_p99": 3e-9, "top1_match_rate": 1.0, "prob_err_max": 1e-6}
DETECTION = {
    "raw_box_err_px": 5e-4,
    "raw_score_err": 2e-6,
    "map_0_5_delta": -0.001,
    "map_0_5_0_95_delta": 0.002,
    "unmatched_rate": 0.0,
    "per_stride": [{"stride": 8, "raw_box_err_px": 5e-4, "raw_score_err": 2e-6}],
    "class_flips": 0,
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(paths=Paths(exp_dir=tmp_path / "exp"), source=tmp_path / "config.yaml")


def make_result(
    stage: str = "classification",
    verdict: VerdictName = "equivalent",
    *,
    mode: str = "smoke",
    engine: str = "onnx",
    provider: str = "auto",
    metrics: dict[str, Any] | None = None,
    breaches: tuple[Breach, ...] = (),
    reason: str = "",
    looser: str | None = None,
    unreadable: dict[str, str] | None = None,
    samples: int = 2,
    ids: Sequence[str] = ("K-1/a.png", "K-2/b.png"),
    seconds: float = 1.5,
) -> CellResult:
    cell = Cell(stage, engine, provider, "fp32", mode)
    outcome = Outcome(
        cell.id,
        file="shard.npz",
        sha256=DIGEST,
        unreadable=unreadable or {},
        reference={
            "checkpoint": "/exp/best.pt",
            "checkpoint_sha256": DIGEST,
            "params_million": 0.4,
        },
        candidate={
            "path": "/exp/model.onnx",
            "sha256": DIGEST,
            "exported_at_utc": "2025-01-31T23:59:59Z",
            "git_sha": "nogit",
            "opset": 17,
            "dynamic_axes": True,
            "providers": ["CPUExecutionProvider"],
        },
        seconds=seconds,
    )
    if metrics is None:
        metrics = CLASSIFICATION if stage == "classification" else DETECTION
    return CellResult(
        cell,
        Verdict(verdict, breaches, reason, looser),
        "strict",
        (outcome,),
        tuple(Sample(name, Path(name), index) for index, name in enumerate(ids)),
        {"id": np.array(list(ids) * (samples // 2)), "content": np.array([DIGEST] * samples)},
        metrics,
        tuple(ids),
    )


def facts(**changes: Any) -> RunFacts:
    values: dict[str, Any] = {
        "run": "20250131-235959-nogit-abc123",
        "started": datetime(2025, 1, 31, 23, 59, 59, tzinfo=UTC),
        "command": "pytest -m smoke",
        "threads": 2,
        "exit_code": 0,
        "complete": True,
        "missing": [],
        "skipped": {},
    }
    return RunFacts(**{**values, **changes})


def schema() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    return content


def check(report: dict[str, Any]) -> None:
    # What stands in the file, not what stands in memory.
    written = json.loads(json.dumps(report, allow_nan=False))
    jsonschema.Draft202012Validator(schema()).validate(written)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_every_object_of_the_schema_says_what_it_may_hold() -> None:
    def objects(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, list):
            return [found for item in node for found in objects(item)]
        if not isinstance(node, dict):
            return []
        here = [node] if "properties" in node and "type" in node else []
        return here + [found for item in node.values() for found in objects(item)]

    found = objects(schema())
    assert len(found) >= 10
    for node in found:
        assert node["additionalProperties"] is False
        assert set(node["required"]) == set(node["properties"])


def test_a_report_has_every_key_of_the_contract(config: Config) -> None:
    results = [make_result("detection"), make_result("classification")]
    report = build_report(results, config, facts())
    check(report)
    keys = {*STAGE_KEYS, "schema_version", "stages", "cells", "gate", "environment", "provenance"}
    assert report.keys() == keys | {"non_finite"}
    assert report["non_finite"] == {}
    # The top level is the classifier's.
    assert {key: report[key] for key in STAGE_KEYS} == report["stages"]["classification"]
    assert report["backbone"] == config.classification.backbone
    assert report["stages"]["detection"]["backbone"] == config.detection.model
    assert report["compare"]["deltas"] == {"map_0_5": -0.001, "map_0_5_0_95": 0.002}
    assert report["compare"]["mse_mean"] == 2e-9
    assert report["ckpt_path"] == "/exp/best.pt"
    assert report["exported_at_utc"] == "2025-01-31T23:59:59Z"
    assert report["postprocess"]["applied_in"] == "python_common"
    assert report["provenance"]["started_at_utc"] == "2025-01-31T23:59:59Z"
    assert report["provenance"]["models_sha256"] == {result.cell.id: DIGEST for result in results}
    assert report["provenance"]["checkpoints_sha256"] == {
        "detection": DIGEST,
        "classification": DIGEST,
    }
    assert [cell["id"] for cell in report["cells"]] == [result.cell.id for result in results]


def test_a_stage_that_was_not_run_is_null(config: Config) -> None:
    report = build_report([make_result("detection")], config, facts())
    check(report)
    assert report["stages"]["classification"] is None
    assert {key: report[key] for key in STAGE_KEYS} == dict.fromkeys(STAGE_KEYS)
    report = build_report([], config, facts(exit_code=1))
    check(report)
    assert report["gate"]["verdict"] is None
    assert report["cells"] == []


def test_a_cell_without_a_measurement_has_a_report(config: Config) -> None:
    cell = Cell("classification", "onnx", "cuda", "fp32", "smoke")
    failure = Outcome(cell.id, ("unmeasured", "no CUDA here"))
    verdict = Verdict("inconclusive", reason="no CUDA here")
    report = build_report([CellResult(cell, verdict, "strict", (failure,))], config, facts())
    check(report)
    (found,) = report["cells"]
    assert (found["samples"], found["metrics"], found["reason"]) == (0, {}, "no CUDA here")
    assert report["compare"]["failed"]
    assert report["compare"]["failure_reason"] == "no CUDA here"
    assert report["onnx_path"] is None
    assert report["provenance"]["data_fingerprint"] == {cell.id: None}


def test_the_stage_is_that_of_its_worst_cell(config: Config) -> None:
    order: tuple[VerdictName, ...] = ("equivalent", "within_tolerance", "inconclusive", "breach")
    modes = ("smoke", "coverage", "full", "full")
    results = [
        make_result(verdict=name, mode=mode, provider=provider, reason=name)
        for name, mode, provider in zip(order, modes, ("cpu", "cpu", "cpu", "auto"), strict=True)
    ]
    for count, worst in enumerate(order, start=1):
        for arranged in (results[:count], results[count - 1 :: -1]):
            report = build_report(arranged, config, facts())
            check(report)
            assert report["gate"]["verdict"] == worst
            assert report["compare"]["mode"] == modes[count - 1]
            assert report["compare"]["failed"] is (worst in ("inconclusive", "breach"))
    assert [line.rpartition(": ")[2] for line in report["gate"]["breaches"]] == [
        "breach",
        "inconclusive",
    ]


def test_numbers_that_are_not_finite_are_null_and_listed(config: Config) -> None:
    metrics = {
        **DETECTION,
        "map_0_5_delta": math.nan,
        "raw_box_err_px": np.float64("inf"),
        "per_stride": [{"stride": 8, "raw_box_err_px": -math.inf, "raw_score_err": 0.5}],
    }
    breach = Breach("raw_box_err_px", math.inf, 0.05, "stride 8")
    result = make_result("detection", "breach", metrics=metrics, breaches=(breach,), reason="far")
    report = build_report([result], config, facts(exit_code=1))
    check(report)
    assert report["non_finite"] == {
        "stages.detection.compare.deltas.map_0_5": "nan",
        "cells[0].metrics.map_0_5_delta": "nan",
        "cells[0].metrics.raw_box_err_px": "inf",
        "cells[0].metrics.per_stride[0].raw_box_err_px": "-inf",
        "cells[0].breaches[0].value": "inf",
    }
    (cell,) = report["cells"]
    assert cell["metrics"]["map_0_5_delta"] is None
    assert cell["metrics"]["per_stride"] == [
        {"stride": 8, "raw_box_err_px": None, "raw_score_err": 0.5}
    ]
    # The terminal has words for them.
    assert "raw_box_err_px inf" in " ".join(render(report, "report.json"))


def test_unknown_keys_and_wrong_values_are_refused(config: Config) -> None:
    report = build_report([make_result("detection"), make_result()], config, facts())
    check(report)
    places: list[tuple[str | int, ...]] = [
        (),
        ("compare",),
        ("compare", "deltas"),
        ("postprocess", "nms"),
        ("stages",),
        ("stages", "detection"),
        ("cells", 0),
        ("gate",),
        ("environment",),
        ("provenance",),
    ]
    for place in places:
        for change in ("unknown", "missing"):
            broken = json.loads(json.dumps(report))
            node = broken
            for key in place:
                node = node[key]
            if change == "unknown":
                node["unknown"] = 1
            else:
                del node[next(iter(node))]
            with pytest.raises(jsonschema.ValidationError):
                check(broken)
    for key, value in (("schema_version", 2), ("exported_at_utc", "today"), ("git_sha", "12345")):
        with pytest.raises(jsonschema.ValidationError):
            check({**report, key: value})


def test_the_environment_names_versions_and_hardware(config: Config) -> None:
    environment = build_report([], config, facts(threads=3))["environment"]
    assert environment.keys() == {
        "python",
        "platform",
        "cpu",
        "cores",
        "threads",
        "gpu",
        "packages",
    }
    assert environment["threads"] == 3
    assert environment["packages"].keys() == PACKAGES.keys()
    assert environment["packages"]["numpy"] == np.__version__
    assert environment["packages"]["pytest"] == pytest.__version__
    assert environment["python"].startswith("3.")


def test_the_fingerprint_covers_names_contents_and_labels(config: Config) -> None:
    def fingerprint(result: CellResult) -> str:
        report = build_report([result], config, facts())
        return str(report["provenance"]["data_fingerprint"][result.cell.id])

    base = make_result()
    others = [make_result(ids=("K-1/a.png", "K-2/c.png")), *(make_result() for _ in range(3))]
    assert others[1].columns is not None
    others[1].columns["content"] = np.array([DIGEST, DIGEST[::-1]])
    box = Box(0, 0.5, 0.5, 0.1, 0.1)
    samples = (others[2].samples[0], Sample("K-2/b.png", Path("b"), 1, (box,)))
    object.__setattr__(others[2], "samples", samples)
    samples = (others[3].samples[0], Sample("K-2/b.png", Path("b"), 7))
    object.__setattr__(others[3], "samples", samples)
    found = [fingerprint(result) for result in (base, *others)]
    assert len(set(found)) == 5
    assert fingerprint(make_result("classification")) == found[0]


def test_published_files_are_equal_in_both_places(config: Config) -> None:
    result = make_result(ids=("정제/사진.png", "b.png"))
    report = build_report([result], config, facts())
    path = publish_report(report, config, "tag-smoke-abc123")
    assert path == config.out_dir / "export_report.json"
    kept = config.out_dir / "reports" / "tag-smoke-abc123.json"
    assert path.read_bytes() == kept.read_bytes()
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == report
    assert "정제/사진.png" in text
    # The next run's report replaces the latest, and leaves the other where it is.
    publish_report(build_report([], config, facts()), config, "tag-smoke-def456")
    assert json.loads(path.read_text(encoding="utf-8"))["cells"] == []
    assert json.loads(kept.read_text(encoding="utf-8")) == report
    names = sorted(item.name for item in config.out_dir.rglob("*") if item.is_file())
    assert names == ["export_report.json", "tag-smoke-abc123.json", "tag-smoke-def456.json"]


def test_names_that_are_no_unicode_can_be_published(config: Config) -> None:
    name = b"K-1/\xff.png".decode(errors="surrogateescape")
    report = build_report([make_result(ids=(name, "b.png"))], config, facts())
    path = publish_report(report, config, "name")
    assert json.loads(path.read_text(encoding="utf-8"))["cells"][0]["worst_samples"][0] == name


def test_a_report_that_cannot_be_written_is_an_incomplete_run(config: Config) -> None:
    config.exp_dir.mkdir()
    config.out_dir.write_text("a file where the folder should be")
    report = build_report([], config, facts())
    with pytest.raises(PillsnapError, match=r"(?s)cannot write.*export\.out_dir"):
        publish_report(report, config, "name")
    run = GateRun(config, Selection(), threads=1, run_dir=config.exp_dir / "runs" / "tag-abc")
    for pytest_code, expected in ((0, 3), (1, 3), (2, 2)):
        finished = finish(
            run,
            Ledger(run),
            pytest_code=pytest_code,
            asked=False,
            command="pytest",
            started=datetime(2025, 1, 1, tzinfo=UTC),
            tag="tag",
        )
        assert (finished.exit_code, finished.path) == (expected, None)
        assert finished.report["gate"]["exit_code"] == expected
        assert "cannot write" in str(finished.problem)
        lines = render(finished.report, None, finished.problem)
        assert any(line.startswith("report not written: cannot write") for line in lines)


LONG = "the images of this folder could not be read because the disk went away " * 4


def busy_report(config: Config) -> dict[str, Any]:
    """A run in which everything happened."""
    breaches = (
        Breach("mse_mean", 1.23e-5, 1e-6),
        Breach("top1_mismatch_rate", 0.25, 0.001),
        Breach("prob_err_max", 0.987, 1e-4),
    )
    results = [
        make_result("detection", "inconclusive", reason=LONG),
        make_result("detection", "within_tolerance", mode="full", samples=1_000_000, seconds=99999),
        make_result("detection", engine="tensorrt", provider="tensorrt", mode="coverage"),
        make_result("classification", provider="cpu", unreadable={"K-1/c.png": LONG}),
        make_result(
            "classification",
            "breach",
            mode="coverage",
            engine="tensorrt",
            provider="tensorrt",
            metrics={
                **CLASSIFICATION,
                "top1_mismatch_rate": 0.25,
                "top1_near_ties": 3,
                "top1_judged_flips": 5,
                "top1_judged_samples": 10**9,
            },
            breaches=breaches,
            reason="; ".join(map(str, breaches)),
            looser="int8",
            ids=(f"{'folder/' * 20}a.png", "K-2/b.png"),
        ),
        make_result("classification", "inconclusive", mode="full", reason=f"two\nlines: {LONG}"),
    ]
    return build_report(
        results,
        config,
        facts(
            exit_code=3,
            complete=False,
            missing=["detection-onnx-auto-fp32-full-s003of012"],
            skipped={"detection-torch-auto-fp32-smoke": f"no checkpoint:\n  {LONG}"},
        ),
    )


def test_the_section_fits_80_columns(config: Config) -> None:
    report = busy_report(config)
    check(report)
    lines = render(report, "/a/path/that/is/copied/in/one/piece" * 4)
    assert WIDTH == 80
    assert [line for line in lines[:-1] if len(line) > 80] == []
    assert lines[-1] == "report: " + "/a/path/that/is/copied/in/one/piece" * 4
    assert not any("\n" in line or "\x1b" in line for line in lines)


def test_the_longest_row_fits_80_columns(config: Config) -> None:
    result = make_result(
        verdict="within_tolerance",
        engine="tensorrt",
        provider="tensorrt",
        mode="coverage",
        samples=5000,
        seconds=12345.6,
    )
    row = render(build_report([result], config, facts()), "report.json")[0]
    assert row == (
        "classification-tensorrt-tensorrt-fp32-coverage  5000 12345.6 s  within_tolerance"
    )


def test_the_section_starts_with_the_breaches_in_words(config: Config) -> None:
    lines = render(busy_report(config), "report.json")
    starts = [
        next(index for index, line in enumerate(lines) if line.startswith(start))
        for start in (
            "BREACH classification-tensorrt-tensorrt-fp32-coverage: mse_mean",
            "INCONCLUSIVE detection-onnx-auto-fp32-smoke: the images",
            "INCONCLUSIVE classification-onnx-auto-fp32-full: two lines: the images",
            "SKIPPED detection-torch-auto-fp32-smoke: no checkpoint: the images",
            "MISSING detection-onnx-auto-fp32-full-s003of012: its worker never reported",
            "detection-onnx-auto-fp32-smoke",
            "detection-onnx-auto-fp32-full",
            "note: ",
            "gate: breach, INCOMPLETE, exit code 3",
            "report: report.json",
        )
    ]
    assert starts == sorted(starts)
    assert starts[0] == 0
    assert starts[-1] == len(lines) - 1
    flat = " ".join(" ".join(lines).split())
    assert "held to profile strict; profile int8 would have held; it would take mse_mean" in flat
    assert "likely: normalisation" in flat
    assert "note: 3 flips are near ties" in flat


COUNTED = {"top1_judged_flips": 0, "top1_judged_samples": 32}
COUNTED_BOXES = {
    "reference_only": 0,
    "candidate_only": 0,
    "reference_boxes": 86,
    "candidate_boxes": 86,
}


def test_what_a_sample_certifies_stands_in_report_and_table(config: Config) -> None:
    results = [
        make_result("detection", metrics={**DETECTION, **COUNTED_BOXES}),
        make_result(metrics={**CLASSIFICATION, **COUNTED}),
        make_result("detection", mode="full", metrics={}),
    ]
    report = build_report(results, config, facts())
    check(report)
    boxes, flips, nothing = (cell["certified"] for cell in report["cells"])
    assert boxes["unmatched_rate"]["trials"] == 172
    assert flips == {
        "top1_mismatch_rate": {
            "failures": 0,
            "trials": 32,
            "upper": pytest.approx(0.0893682),
            "tolerance": 0.001,
            "certifies": False,
            "samples_needed": 2995,
        }
    }
    assert nothing == {}
    lines = render(report, "report.json")
    assert "  0 of 32 flipped: certifies 8.9 %; 0.1 % needs 2,995" in lines
    assert "  0 of 172 boxes unmatched: certifies 1.7 %; 1 % needs 299 boxes" in lines
    assert report["gate"]["verdict"] == "equivalent"
    report["cells"][1]["certified"]["top1_mismatch_rate"]["upper"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        check(report)


def test_every_cell_has_a_row_with_its_figures_against_their_limits(config: Config) -> None:
    report = build_report([make_result("detection"), make_result(samples=32)], config, facts())
    lines = render(report, "report.json")
    assert lines[0].split() == ["detection-onnx-auto-fp32-smoke", "2", "1.5", "s", "equivalent"]
    assert lines[1].startswith("  box px 0.0005/0.05  score 2e-06/0.0001  mAP 0.002/0.01")
    assert lines[2].split()[:2] == ["classification-onnx-auto-fp32-smoke", "32"]
    assert lines[3].startswith("  mse 2e-09/1e-06  p99 3e-09/5e-06")
    # One column under the other.
    assert lines[0].index("equivalent") == lines[2].index("equivalent")
    assert "gate: equivalent, complete, exit code 0" in lines
    nothing = render(build_report([], config, facts(exit_code=1)), "report.json")
    assert nothing == ["gate: nothing measured, complete, exit code 1", "report: report.json"]


def test_the_policy_is_said_in_words(config: Config) -> None:
    cells = [
        Cell("detection", "onnx", "auto", "fp32", mode) for mode in ("smoke", "coverage", "full")
    ]
    assert [sample_policy(cell, config.compare) for cell in cells] == [
        "32 at random, stratified by class, seed 0",
        "class-balanced: 1 per class, at most 5000, seed 0",
        "the whole validation set",
    ]
    plain = replace(config.compare, stratify_by=())
    assert sample_policy(cells[0], plain) == "32 at random, seed 0"
