"""The report and the terminal's section, from results made by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from pydantic import ValidationError

from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.detection import DetectionRecorder
from pillsnap.compare.exactness import exactness_metrics
from pillsnap.compare.figures import Metrics
from pillsnap.compare.figures.classification import classification_figures
from pillsnap.compare.figures.detection import detection_figures
from pillsnap.compare.outcome import Outcome
from pillsnap.compare.records import Columns, write_records
from pillsnap.compare.result import CellResult
from pillsnap.compare.verdict import Breach, Verdict, VerdictName
from pillsnap.config.cells import Cell, Shard
from pillsnap.config.figures import EXACTNESS, figures_of
from pillsnap.config.selection import Selection
from pillsnap.config.settings import (
    Classification,
    Compare,
    Config,
    Data,
    Export,
    Nms,
    Paths,
    config_sha256,
)
from pillsnap.config.tolerances import Profiles, Tolerances
from pillsnap.config.validation import Combo, Validation
from pillsnap.core.checkout import Checkout
from pillsnap.core.errors import PillsnapError
from pillsnap.data.datasets import Sample
from pillsnap.data.labels import Box
from pillsnap.gate.finish import finish
from pillsnap.gate.ledger import Ledger
from pillsnap.gate.run import GateRun
from pillsnap.pipeline.transforms import Geometry
from pillsnap.report import SCHEMA_PATH, RunFacts, build_report, publish_report
from pillsnap.report import facts as facts_module
from pillsnap.report.evidence import Evidence
from pillsnap.report.lines import WIDTH
from pillsnap.report.models import Repeated, Report
from pillsnap.report.page import render_page
from pillsnap.report.policy import sample_policy, with_class_names
from pillsnap.report.schema import make_schema
from pillsnap.report.show import read_report
from pillsnap.report.table import render
from tests.core.distributions import register_distribution
from tests.engines.test_onnxruntime import save_network

DIGEST = "0123456789abcdef" * 4

CLASSES = {
    "classes_asked": None,
    "classes_available": 24,
    "classes_covered": 20,
    "classes_missing": None,
}
DISTINCT: Metrics = {
    "samples": 32,
    "distinct_samples": 32,
    "label_conflicts": 0,
    "label_conflict_samples": [],
}
CLASSIFICATION: Metrics = {
    **DISTINCT,
    "non_finite": 0,
    "mse_mean": 2e-9,
    "mse_p99": 3e-9,
    "mse_max": 4e-9,
    "mse_max_sample": "K-1/a.png",
    "sse_mean": 5e-8,
    "prob_err_max": 1e-6,
    "prob_err_max_sample": "K-2/b.png",
    "logit_err_max": 2e-5,
    "logits_exactness": 1.5,
    "logits_rounding": 1e-6,
    "precision_bits": 22.4,
    "kl_mean": 1e-12,
    "logit_snr_db": 120.5,
    "top1_match_rate": 1.0,
    "top1_mismatch_count": 0,
    "top1_near_ties": 0,
    "top1_judged_flips": 0,
    "top1_judged_samples": 32,
    "top1_distinct_flips": 0,
    "top1_distinct_samples": 32,
    "top1_mismatch_rate": 0.0,
    "worst_classes": [],
    "boundary_cases": [
        {
            "sample": "K-1/a.png",
            "reference_margin": 0.01,
            "reference_class": 1,
            "candidate_class": 1,
            "prob_err": 1e-6,
            "flipped": False,
        }
    ],
    "labelled_samples": 32,
    "labelled_distinct_samples": 32,
    "reference_top1": 0.9375,
    "candidate_top1": 0.9375,
    "reference_top1_by_chance": 1e-38,
    **CLASSES,
}
DETECTION: Metrics = {
    **DISTINCT,
    "non_finite": 0,
    "raw_box_err_px": 5e-4,
    "raw_score_err": 2e-6,
    "per_stride": [
        {
            **{"stride": 8, "raw_box_err_px": 5e-4, "raw_score_err": 2e-6},
            **{"box_exactness": 1.2, "score_exactness": 0.9, "reference_boxes": 86},
            **{"box_rounding": 1e-5, "score_rounding": 1e-7, "class_flip_gap": 0.0},
        }
    ],
    "box_exactness": 1.2,
    "score_exactness": 0.9,
    "box_rounding": 1e-5,
    "score_rounding": 1e-7,
    "precision_bits": 20.1,
    "class_flip_gap": 0.0,
    "class_flips": 0,
    "box_class_flips": 0,
    "reference_boxes": 86,
    "candidate_boxes": 86,
    "matched_boxes": 86,
    "reference_only": 0,
    "candidate_only": 0,
    "reference_only_rate": 0.0,
    "candidate_only_rate": 0.0,
    "unmatched_rate": 0.0,
    "distinct_boxes": 172,
    "distinct_unmatched": 0,
    "images_at_max_detections": 0,
    "labels_above_max_detections": 0,
    "iou_delta_p50": 1e-6,
    "iou_delta_p95": 2e-6,
    "iou_delta_max": 3e-6,
    "conf_delta_mean": 1e-7,
    "conf_delta_max": 2e-6,
    "reference_map_0_5": 0.9,
    "candidate_map_0_5": 0.899,
    "map_0_5_delta": -0.001,
    "map_0_5_delta_upper": 0.004,
    "reference_map_0_5_0_95": 0.7,
    "reference_map_0_5_0_95_upper": None,
    "candidate_map_0_5_0_95": 0.702,
    "map_0_5_0_95_delta": 0.002,
    "map_0_5_0_95_delta_upper": 0.0123,
    "map_images": 32,
    "map_distinct_images": 32,
    "map_resamples": 1000,
    "map_reason": None,
    **CLASSES,
}
NOT_OF_HARD = set(CLASSES)
ERRORS: dict[str, dict[str, Any]] = {
    "classification": {
        "images": 4,
        "parts": [
            {
                **{"kind": "logits", "stride": None, "signal": 8.0},
                **{"reference": 1e-6, "candidate": 2e-6, "unit": 2.4e-7},
            }
        ],
    },
    "detection": {
        "images": 4,
        "parts": [
            {
                **{"kind": kind, "stride": stride, "signal": 32.0},
                **{"reference": 1e-5, "candidate": error, "unit": 1e-6},
            }
            for stride, error in ((8, 1e-5), (16, 3e-5), (32, 2e-5))
            for kind in ("box", "score")
        ],
    },
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
    exactness: dict[str, Any] | None = None,
    hard: bool = False,
    precision: str = "fp32",
    providers: Sequence[str] = ("CPUExecutionProvider",),
) -> CellResult:
    cell = Cell(stage, engine, provider, precision, mode, hard)
    outcome = Outcome(
        cell.id,
        samples=samples + len(unreadable or {}),
        file="shard.records",
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
            "ir_version": 8,
            "min_onnxruntime": "1.12",
            "dynamic_axes": True,
            "providers": list(providers),
        },
        exactness=exactness,
        seconds=seconds,
    )
    if metrics is None:
        metrics = CLASSIFICATION if stage == "classification" else DETECTION
        metrics = {k: v for k, v in metrics.items() if not (hard and k in NOT_OF_HARD)}
    return CellResult(
        cell,
        Verdict(verdict, breaches, reason, looser),
        "strict",
        (outcome,),
        samples,
        DIGEST,
        metrics,
        tuple(ids),
    )


def facts(**changes: Any) -> RunFacts:
    values: dict[str, Any] = {
        "run": "20250131-235959-nogit-abc123",
        "started": datetime(2025, 1, 31, 23, 59, 59, 250, tzinfo=UTC),
        "command": "pytest -m smoke",
        "checkout": Checkout("nogit"),
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


def test_the_committed_schema_is_that_of_the_models() -> None:
    made = json.dumps(make_schema(), indent=2) + "\n"
    assert SCHEMA_PATH.read_text(encoding="utf-8") == made, "run python -m pillsnap.report.schema"


def test_a_figure_that_is_added_is_in_the_schema() -> None:
    """In a process of its own, since the models are made from the figures once."""
    code = """
import json
from pillsnap.config import figures
made = figures.Certification("of it", failures=("samples",), trials=("samples",))
figures.FIGURES += (figures.Figure("another", "detection", "what it is", certified=made),)
from pillsnap.report.schema import make_schema
print(json.dumps(make_schema()["$defs"]))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert found["detection_metrics"]["properties"]["another"]["description"] == "what it is"
    assert "another" in found["detection_metrics"]["required"]
    assert "another" not in found["classification_metrics"]["properties"]
    assert "another" in found["cell"]["properties"]["certified"]["propertyNames"]["enum"]


def test_every_object_of_the_schema_says_what_it_may_hold() -> None:
    def objects(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, list):
            return [found for item in node for found in objects(item)]
        if not isinstance(node, dict):
            return []
        here = [node] if "properties" in node and "type" in node else []
        return here + [found for item in node.values() for found in objects(item)]

    found = objects(schema())
    assert len(found) >= 20
    for node in found:
        assert node["additionalProperties"] is False
        optional = set(node["properties"]) - set(node["required"])
        assert set(node["required"]) <= set(node["properties"])
        # Hard samples are drawn to be unsure, not to cover classes.
        assert optional == (NOT_OF_HARD if "top1_mismatch_rate" in node["properties"] else set())


def test_every_object_of_the_schema_without_names_says_what_its_values_are() -> None:
    def maps(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, list):
            return [found for item in node for found in maps(item)]
        if not isinstance(node, dict):
            return []
        kinds = node.get("type", ())
        here = [node] if "object" in ([kinds] if isinstance(kinds, str) else kinds) else []
        return here + [found for item in node.values() for found in maps(item)]

    for node in maps(schema()):
        assert {"properties", "additionalProperties", "maxProperties"} & node.keys(), node


def real_metrics() -> tuple[Metrics, Metrics]:
    """Figures as they are computed, of a classification and of a detection cell."""
    labels = [index % 5 for index in range(20)]
    ref = np.eye(5, dtype=np.float32)[labels] * 6
    cand = ref.copy()
    cand[3, :2] = 9, 0
    singles = [Sample(f"{index:02}.png", Path("x"), label) for index, label in enumerate(labels)]
    columns = ClassificationRecorder().columns(singles, [], ref, cand)
    rows = np.zeros((4, 84, 7), np.float32)
    rows[:, 3] = (4, 4, 24, 24, 0.9, 0, 1)
    scenes = [
        Sample(f"{index}.png", Path("x"), None, (Box(0, 14 / 64, 14 / 64, 20 / 64, 20 / 64),))
        for index in range(4)
    ]
    recorder = DetectionRecorder((8, 16, 32), (64, 64), Nms())
    geometries = [Geometry(ratio=1.0, left=0, top=0, width=64, height=64)] * 4
    boxes = recorder.columns(scenes, geometries, rows, rows[..., :6] + np.float32(0.001))
    content = np.arange(20 * 32).astype(np.uint8).reshape(20, 32)
    return (
        classification_figures({**columns, "content": content}, 5).metrics,
        detection_figures({**boxes, "content": content[:4]}, (8, 16, 32), 100, 0).metrics,
    )


@pytest.mark.parametrize("stage", ["classification", "detection"])
def test_every_figure_that_is_computed_is_described(config: Config, stage: str) -> None:
    found = real_metrics()[stage == "detection"]
    names = [f.name for f in figures_of(stage) if f.limited_by == EXACTNESS]
    found.update(exactness_metrics((), names, found.get("per_stride", ())))
    example = CLASSIFICATION if stage == "classification" else DETECTION
    assert found.keys() | NOT_OF_HARD == example.keys()
    definitions = schema()["$defs"]
    assert definitions[f"{stage}_metrics"]["properties"].keys() == example.keys()
    found = with_class_names(make_result(stage, metrics=found))
    whole = {**found, **CLASSES}
    check(build_report([make_result(stage, metrics=whole)], config, facts()))
    part = {"$defs": definitions, "$ref": f"#/$defs/{stage}_metrics"}
    validator = jsonschema.Draft202012Validator(part)
    assert validator.is_valid(whole)
    assert validator.is_valid(found) is (stage == "classification")
    for name in found:
        assert not validator.is_valid({key: whole[key] for key in whole if key != name}), name
        assert not validator.is_valid({**whole, name: {}}), name
    assert not validator.is_valid({**whole, "another": 1})
    for name in ("worst_classes", "boundary_cases", "per_stride"):
        for row in found.get(name, ())[:1]:
            for key in row:
                less = {other: row[other] for other in row if other != key}
                for wrong in ({**row, key: {}}, less):
                    assert not validator.is_valid({**whole, name: [wrong]}), (name, key)
            assert not validator.is_valid({**whole, name: [{**row, "another": 1}]}), name


def test_a_report_has_every_key_of_the_contract(config: Config) -> None:
    results = [make_result("detection"), make_result("classification")]
    report = build_report(results, config, facts())
    check(report)
    keys = {
        *Repeated.model_fields,
        "schema_version",
        "stages",
        "cells",
        "gate",
        "environment",
        "provenance",
    }
    assert report.keys() == keys | {"non_finite", "against", "cluster"}
    assert report["non_finite"] == {}
    # The top level is the classifier's.
    assert {key: report[key] for key in Repeated.model_fields} == report["stages"]["classification"]
    assert report["backbone"] == config.classification.backbone
    assert report["stages"]["detection"]["backbone"] == config.detection.model
    assert report["compare"]["deltas"] == {"map_0_5": -0.001, "map_0_5_0_95": 0.002}
    assert report["compare"]["mse_mean"] == 2e-9
    assert report["compare"]["sampled_classes"] == 20
    assert report["compare"]["sampled_images"] == 2
    assert [cell["hard"] for cell in report["cells"]] == [False, False]
    assert report["ckpt_path"] == "/exp/best.pt"
    assert report["exported_at_utc"] == "2025-01-31T23:59:59Z"
    assert report["postprocess"]["applied_in"] == "python_common"
    assert report["provenance"]["started_at_utc"] == "2025-01-31T23:59:59.000250Z"
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
    assert {key: report[key] for key in Repeated.model_fields} == dict.fromkeys(
        Repeated.model_fields
    )
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
    assert found["exactness"] is None
    assert (report["compare"]["sampled_classes"], report["compare"]["sampled_images"]) == (None, 0)


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
        "per_stride": [
            {
                **{"stride": 8, "raw_box_err_px": -math.inf, "raw_score_err": 0.5},
                **{"box_exactness": 2.0, "score_exactness": None, "reference_boxes": 1},
                **{"box_rounding": 1e-5, "score_rounding": None, "class_flip_gap": 0.0},
            }
        ],
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
    (row,) = cell["metrics"]["per_stride"]
    assert row == {**metrics["per_stride"][0], "raw_box_err_px": None}
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
        ("cells", 0, "metrics"),
        ("cells", 1, "metrics"),
        ("cells", 1, "certified", "top1_mismatch_rate"),
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
            if place != ("stages",):  # Tasks may be added from outside.
                with pytest.raises(ValidationError):
                    Report.model_validate(broken)
    for key, value in (("schema_version", 2), ("exported_at_utc", "today"), ("git_sha", "12345")):
        with pytest.raises(jsonschema.ValidationError):
            check({**report, key: value})


def test_a_report_with_a_figure_of_no_model_is_not_built(config: Config) -> None:
    metrics = {**CLASSIFICATION, "another": 1}
    with pytest.raises(ValidationError, match="another"):
        build_report([make_result(metrics=metrics)], config, facts())


def test_a_figure_out_of_its_bounds_costs_no_report(config: Config) -> None:
    metrics = {**CLASSIFICATION, "top1_match_rate": 1.0000001}
    report = build_report([make_result(metrics=metrics)], config, facts())
    assert report["compare"]["top1_match_rate"] == 1.0000001
    with pytest.raises(jsonschema.ValidationError):
        check(report)


def test_a_stage_that_has_no_model_has_a_report(config: Config) -> None:
    report = build_report([make_result()], config, facts())
    report["stages"]["another"] = report["stages"]["classification"]
    report["cells"].append({**report["cells"][0], "stage": "another", "metrics": {"figure": 1}})
    Report.model_validate(report)
    with pytest.raises(jsonschema.ValidationError):
        check(report)


def test_the_environment_is_that_of_the_configured_gpu(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(facts_module, "gpu_name", asked.append)
    runtime = replace(config.runtime, cuda=replace(config.runtime.cuda, device_id=3))
    build_report([], replace(config, runtime=runtime), facts())
    assert asked == [3]


def test_the_environment_names_versions_and_hardware(config: Config) -> None:
    environment = build_report([], config, facts(threads=3, load=0.5))["environment"]
    assert environment["load"] == 0.5
    assert environment.keys() == {
        "python",
        "platform",
        "cpu",
        "cores",
        "threads",
        "load",
        "gpu",
        "driver",
        "cuda",
        "cudnn",
        "tensorrt",
        "packages",
        "distributions",
        "problems",
        "runtime",
    }
    assert environment["runtime"] == {
        "graph_optimization_level": "ORT_ENABLE_ALL",
        "disabled_optimizers": [],
    }
    assert environment["threads"] == 3
    assert environment["packages"].keys() == {
        "pillsnap",
        "torch",
        "timm",
        "ultralytics",
        "onnx",
        "onnxruntime",
        "openvino",
        "nncf",
        "numpy",
        "pillow",
        "opencv",
        "pycocotools",
        "pytest",
    }
    assert environment["packages"]["numpy"] == np.__version__
    assert environment["distributions"]["numpy"] == {"numpy": np.__version__}
    assert environment["distributions"].keys() == environment["packages"].keys()
    assert environment["packages"]["pytest"] == pytest.__version__
    assert environment["python"].startswith("3.")


def test_a_package_that_is_installed_twice_is_named_with_both_sources(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = version("opencv-python-headless")
    register_distribution(tmp_path / "packages", "opencv-python", "4.9.0")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    report = build_report([], config, facts())
    check(report)
    environment = report["environment"]
    assert environment["distributions"]["opencv"] == {
        "opencv-python-headless": usual,
        "opencv-python": "4.9.0",
    }
    assert environment["packages"]["opencv"] == f"{usual} and 4.9.0"
    assert any(problem.startswith("cv2 is installed 2 ti") for problem in environment["problems"])
    assert "warning: cv2 is installed 2 times" in " ".join(render(report, "report.json"))


def test_a_changed_working_tree_stands_beside_the_commit(config: Config) -> None:
    def notes(checkout: Checkout) -> str:
        report = build_report([make_result()], config, facts(checkout=checkout))
        check(report)
        found = {key: report["provenance"][key] for key in checkout.as_dict()}
        assert found == checkout.as_dict()
        return " ".join(" ".join(render(report, "report.json")).split())

    assert "commit" not in notes(Checkout("nogit"))
    assert "commit" not in notes(Checkout("1234567", dirty=False))
    changed = notes(Checkout("1234567", True, DIGEST))
    assert f"files of commit 1234567 had been changed (diff {DIGEST[:12]})" in changed
    unknown = notes(Checkout("1234567", reason="git refuses it"))
    assert "changes to commit 1234567 are not known: git refuses it" in unknown


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
    assert read_report(path)["cells"][0]["worst_samples"][0] == r"K-1/\udcff.png"


def test_what_lies_beside_the_report_does_not_cost_it(config: Config) -> None:
    """The other stage's latest export is no part of this run, whatever it is."""
    import onnx

    config.out_dir.mkdir(parents=True)
    path = save_network(config.out_dir / "latest_classification.onnx")
    model = onnx.load(path)
    odd = {"pillsnap.stage": "classification", "pillsnap.params_million": "abc"}
    onnx.helper.set_model_props(model, odd)
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    onnx.save(model, path)
    run = GateRun(config, Selection(), threads=1, run_dir=config.exp_dir / "runs" / "tag-abc")
    finished = finish(
        run,
        Ledger(run),
        pytest_code=0,
        asked=False,
        command="pytest",
        started=datetime(2025, 1, 1, tzinfo=UTC),
        tag="tag",
        checkout=Checkout("nogit"),
    )
    assert (finished.exit_code, finished.path) == (0, config.out_dir / "export_report.json")


def test_a_report_that_cannot_be_written_is_an_incomplete_run(config: Config) -> None:
    config.exp_dir.mkdir()
    config.out_dir.write_text("a file where the folder should be")
    report = build_report([], config, facts())
    with pytest.raises(PillsnapError, match=r"(?s)cannot write.*write elsewhere"):
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
            checkout=Checkout("nogit"),
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
                "top1_distinct_flips": 5,
                "top1_distinct_samples": 10**9,
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
    wide = [line.split() for line in lines[:-1] if len(line) > 80]
    assert [len(words) for words in wide] == [1]  # a path that is copied in one piece, too
    assert lines[-1] == "report: " + "/a/path/that/is/copied/in/one/piece" * 4
    assert not any("\n" in line or "\x1b" in line for line in lines)


def test_ids_of_a_foreign_report_do_not_leave_their_line(config: Config) -> None:
    report = busy_report(config)
    for cell in report["cells"]:
        cell["id"] = "cell\x1b[2J\n::error::x"
    lines = render(report, "p")
    assert not any("\x1b" in line or line.startswith("::") for line in lines)


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


def test_what_a_sample_certifies_stands_in_report_and_table(config: Config) -> None:
    results = [
        make_result("detection"),
        make_result(),
        make_result("detection", mode="full", metrics={}),
    ]
    report = build_report(results, config, facts())
    check(report)
    boxes, flips, nothing = (cell["certified"] for cell in report["cells"])
    assert boxes["unmatched_rate"]["trials"] == 172
    assert boxes["map_0_5_delta"] == {
        "certified_upper": 0.004,
        "tolerance": 0.01,
        "certifies": True,
        "trials": 32,
        "failures": None,
        "samples_needed": None,
    }
    assert boxes["map_0_5_0_95_delta"]["certifies"] is False
    assert flips == {
        "top1_mismatch_rate": {
            "certified_upper": pytest.approx(0.0893682),
            "tolerance": 0.001,
            "certifies": False,
            "trials": 32,
            "failures": 0,
            "samples_needed": 2995,
        }
    }
    assert nothing == {}
    lines = render(report, "report.json")
    assert "  0 of 32 flipped: certifies 8.9 %; 0.1 % needs 2,995" in lines
    assert "  0 of 172 boxes unmatched: certifies 1.7 %; 1 % needs 299 boxes" in lines
    assert "  mAP@0.5 loss over 32 images: certifies 0.4 %, within 1 %" in lines
    assert "  mAP@0.5:0.95 loss over 32 images: certifies 1.2 %, not 1 %" in lines
    # However little is certified, the verdict is another matter.
    assert report["gate"]["verdict"] == "equivalent"
    report["cells"][1]["certified"]["top1_mismatch_rate"]["certified_upper"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        check(report)


def test_what_the_samples_are_short_of_stands_in_report_and_table(config: Config) -> None:
    copies = {
        "samples": 3000,
        "distinct_samples": 24,
        "label_conflicts": 12,
        "label_conflict_samples": [["a/0.png", "b/0.png"], ["c/1.png", "d/1.png"]],
        "labelled_distinct_samples": 2,
        "reference_top1_by_chance": 0.25,
    }
    cut = {"images_at_max_detections": 7, "labels_above_max_detections": 1234}
    results = [
        make_result(metrics={**CLASSIFICATION, **copies}),
        make_result("detection", metrics={**DETECTION, **cut}),
    ]
    report = build_report(results, config, facts())
    check(report)
    singles, scenes = (
        report["stages"][stage]["compare"]["notes"] for stage in ("classification", "detection")
    )
    assert (
        "classification: 2,976 of 3,000 samples are copies, files of the same bytes as another: "
        "what the sample certifies counts each image once"
    ) in singles
    assert (
        "classification: the same image under different labels (two classes, say), of which at "
        "most one is right: 12, such as a/0.png and b/0.png; c/1.png and d/1.png"
    ) in singles
    assert (
        "classification: 2 labelled images are too few to tell the reference from guessing: "
        "verify more samples"
    ) in singles
    assert (
        "detection: max_detections (100) is reached in 7 images, whose further boxes neither side "
        "keeps; labelled boxes above it: 1,234"
    ) in scenes
    lines = render(report, "report.json")
    assert "  2,976 copies: 24 distinct images of 3,000" in lines
    assert "  copies that are labelled differently: 12" in lines
    assert "  max_detections reached in 7 of 32 images" in lines
    # Nothing of it is said of samples that lack nothing.
    report = build_report([make_result(), make_result("detection")], config, facts())
    text = "\n".join(render(report, "report.json"))
    assert not any(word in text for word in ("copies", "max_detections", "too few"))


def test_a_gain_of_map_is_a_note_and_has_its_sign_in_the_row(config: Config) -> None:
    metrics = {**DETECTION, "map_0_5_0_95_delta": 0.025}
    reason = "map_0_5_0_95_delta +0.025 is a gain beyond 0.01: drift, no breach"
    gained = make_result("detection", "within_tolerance", metrics=metrics, reason=reason)
    report = build_report([gained], config, facts())
    check(report)
    assert reason in report["stages"]["detection"]["compare"]["notes"]
    assert report["stages"]["detection"]["compare"]["failure_reason"] is None
    assert any("mAP +0.025/-0.01" in line for line in render(report, "report.json"))
    lost = make_result("detection", metrics={**DETECTION, "map_0_5_0_95_delta": -0.005})
    lines = render(build_report([lost], config, facts()), "report.json")
    assert any("mAP -0.005/-0.01" in line for line in lines)


def test_without_labels_nothing_is_certified_of_map(config: Config) -> None:
    names = [name for name in DETECTION if "map_0_5" in name]
    metrics = {**DETECTION, **dict.fromkeys(names), "map_images": 0, "map_resamples": 0}
    metrics["map_reason"] = "no labels"
    report = build_report([make_result("detection", metrics=metrics)], config, facts())
    check(report)
    assert report["cells"][0]["certified"].keys() == {"unmatched_rate"}
    assert "mAP is null: no labels" in report["stages"]["detection"]["compare"]["notes"]
    assert not any("mAP@" in line for line in render(report, "report.json"))


def test_a_tolerance_of_exactness_wants_it_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    measured = judge_cell(run, "classification")
    assert measured.verdict.name == "equivalent"
    unmeasured = judge_cell(run, "classification", exactness=None)
    assert unmeasured.verdict.name == "inconclusive"
    assert "exactness is judged and could not be measured" in unmeasured.verdict.reason
    # Where nothing judges it, a bundle of an older version is as good as ever.
    tolerances = Profiles(strict=Tolerances(prob_err_max=1e-4))
    run = make_run(tmp_path, Compare(shard_size=4, batch_size=2, tolerances=tolerances))
    assert judge_cell(run, "classification", exactness=None).verdict.name == "equivalent"


def test_how_exact_a_cell_is_stands_in_report_and_table(config: Config) -> None:
    results = [make_result(stage, exactness=ERRORS[stage]) for stage in ERRORS]
    report = build_report([*results, make_result(mode="full")], config, facts())
    check(report)
    assert [cell["exactness"] for cell in report["cells"]] == [*ERRORS.values(), None]
    lines = render(report, "report.json")
    assert any("exactness 1.5/8" in line for line in lines)
    assert any("exactness of boxes 1.2/8  of scores 0.9/8" in line for line in lines)
    assert "  precision kept: 22.4 bits of torch in float64" in lines


def test_an_error_that_is_not_finite_is_listed(config: Config) -> None:
    (part,) = ERRORS["classification"]["parts"]
    broken = {"images": 4, "parts": [{**part, "candidate": math.inf}]}
    report = build_report([make_result(exactness=broken)], config, facts())
    check(report)
    assert report["cells"][0]["exactness"]["parts"][0]["candidate"] is None
    assert report["non_finite"]["cells[0].exactness.parts[0].candidate"] == "inf"


def test_samples_are_those_that_were_measured_and_images_those_that_were_looked_at(
    config: Config,
) -> None:
    result = make_result(unreadable={"K-1/c.png": "gone"}, samples=30)
    report = build_report([result], config, facts())
    assert report["cells"][0]["samples"] == 30
    assert report["compare"]["sampled_images"] == 31
    assert render(report, None)[0].split()[1] == "30"


def test_a_cell_of_hard_samples_stands_beside_the_others(config: Config) -> None:
    results = [
        make_result(mode="coverage"),
        make_result(mode="coverage", hard=True, verdict="within_tolerance", samples=30),
    ]
    report = build_report(results, config, facts())
    check(report)
    assert [cell["hard"] for cell in report["cells"]] == [False, True]
    assert report["cells"][1]["id"] == "classification-onnx-auto-fp32-coverage-hard"
    # The stage is that of its worst cell, of which no classes are asked.
    assert report["compare"]["sample_policy"].startswith("0 per bin of the reference's top-1")
    assert (report["compare"]["sampled_classes"], report["compare"]["sampled_images"]) == (None, 30)
    assert report["provenance"]["data_fingerprint"].keys() == {cell.cell.id for cell in results}


def test_the_row_of_hard_samples_fits_80_columns(config: Config) -> None:
    result = make_result(
        verdict="within_tolerance",
        engine="tensorrt",
        provider="tensorrt",
        mode="coverage",
        samples=32,
        seconds=12345.6,
        hard=True,
    )
    report = build_report([result], config, facts())
    assert [line for line in render(report, "report.json") if len(line) > WIDTH] == []


def test_the_hash_of_the_config_is_that_of_what_can_change_a_result(config: Config) -> None:
    def hash_of(**changes: Any) -> str:
        changed = replace(config, export=Export(compare=Compare(**changes)))
        report = build_report([], changed, facts())
        assert report["provenance"]["config_sha256"] == config_sha256(changed)
        return str(report["provenance"]["config_sha256"])

    assert hash_of() == hash_of(shard_size=2000) == hash_of(shard_size=16)
    assert len({hash_of(), hash_of(seed=1), hash_of(hard_per_bin=8), hash_of(max_total=7)}) == 4


def notes_of(config: Config, **metrics: Any) -> list[str]:
    result = make_result(mode="coverage", metrics={**CLASSIFICATION, **metrics})
    report = build_report([result], config, facts())
    check(report)
    notes: list[str] = report["compare"]["notes"]
    shown = " ".join(" ".join(render(report, None)).split())
    assert all(f"note: {note}" in shown for note in notes)
    return [note for note in notes if "classes" in note]


def test_classes_that_coverage_lacks_are_noted(config: Config) -> None:
    asked = {"classes_asked": 5000, "classes_available": 1200, "classes_covered": 1000}
    assert notes_of(config, **asked, classes_missing=4000) == [
        "classification: classes asked for 5,000, in the data 1,200, covered 1,000"
    ]
    assert notes_of(config, **asked, classes_missing=0) == []
    assert notes_of(config) == []


def test_a_file_that_asks_for_a_newer_runtime_than_its_opset_does_is_noted(config: Config) -> None:
    result = make_result()
    report = build_report([result], config, facts())
    assert (report["ir_version"], report["min_onnxruntime"]) == (8, "1.12")
    assert "IR version" not in " ".join(report["compare"]["notes"])
    result.outcomes[0].candidate.update(ir_version=10, min_onnxruntime="1.18")
    shown = " ".join(" ".join(render(build_report([result], config, facts()), None)).split())
    assert (
        "note: classification: IR version 10 of the file needs ONNX Runtime 1.18, where opset 17 "
        "needs 1.12"
    ) in shown


def test_every_cell_has_a_row_with_its_figures_against_their_limits(config: Config) -> None:
    report = build_report([make_result("detection"), make_result(samples=32)], config, facts())
    lines = render(report, "report.json")
    place = next(i for i, line in enumerate(lines) if line.startswith("classification"))
    assert lines[0].split() == ["detection-onnx-auto-fp32-smoke", "2", "1.5", "s", "equivalent"]
    figures = " ".join(lines[1].split() + lines[2].split())
    assert figures.startswith(
        "exactness of boxes 1.2/8 of scores 0.9/8 box px 0.0005/0.05 score 2e-06/0.0001 mAP"
    )
    assert lines[place].split()[:2] == ["classification-onnx-auto-fp32-smoke", "32"]
    assert lines[place + 1].startswith("  mse 2e-09/1e-06  p99 3e-09/5e-06")
    # One column under the other.
    assert lines[0].index("equivalent") == lines[place].index("equivalent")
    assert "gate: equivalent, complete, exit code 0" in lines
    nothing = render(build_report([], config, facts(exit_code=1)), "report.json")
    assert nothing == ["gate: nothing measured, complete, exit code 1", "report: report.json"]


def test_the_policy_is_said_in_words(config: Config) -> None:
    cells = [
        Cell("detection", "onnx", "auto", "fp32", mode) for mode in ("smoke", "coverage", "full")
    ]
    boxed = "at least 25 % with labelled boxes where the data have so many"
    assert [sample_policy(cell, config.compare) for cell in cells] == [
        f"32 at random, stratified by class, {boxed}, seed 0",
        "class-balanced: 1 per class, at most 5000, seed 0",
        "the whole validation set",
    ]
    plain = replace(config.compare, stratify_by=())
    assert sample_policy(cells[0], plain) == f"32 at random, {boxed}, seed 0"
    single = replace(cells[0], stage="classification")
    assert sample_policy(single, plain) == "32 at random, seed 0"
    hard = replace(cells[1], stage="classification", hard=True)
    compare = replace(config.compare, hard_per_bin=8, hard_pool=900, seed=3)
    assert sample_policy(hard, compare) == (
        "8 per bin of the reference's top-1 probability (0, 0.3, 0.6, 0.85, 1), of 900 at random, "
        "seed 3"
    )


@pytest.mark.parametrize(
    ("changes", "fell_back"),
    [
        ({}, True),
        ({"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}, False),
        ({"provider": "cpu"}, False),
        ({"engine": "torch"}, False),
        ({"providers": []}, False),  # nothing is known of what ran
    ],
)
def test_a_fallback_of_auto_is_noted(
    config: Config, changes: dict[str, Any], fell_back: bool
) -> None:
    report = build_report([make_result(**changes)], config, facts())
    said = [line for line in render(report, "report.json") if "fell back" in line]
    assert said == ["note: provider auto fell back to CPUExecutionProvider"] * fell_back


# ----------------------------------------------------- cells that the ledger judges, from records

DRUGS = 3


def make_run(folder: Path, compare: Compare | None = None, *, labels: bool = True) -> GateRun:
    """A project of empty images, whose names and labels are all that is read of them."""
    single, combo = folder / "single", folder / "combo"
    (combo / "images").mkdir(parents=True, exist_ok=True)
    (combo / "labels").mkdir(exist_ok=True)
    for number in range(12):
        drug = single / f"K-{number % DRUGS}"
        drug.mkdir(parents=True, exist_ok=True)
        (drug / f"{number:02}.png").touch()
        (combo / "images" / f"{number:02}.png").touch()
        line = f"0 0.5 0.5 0.25 {0.25 + number / 100}\n" if number else ""
        (combo / "labels" / f"{number:02}.txt").write_text(line)
    class_map = folder / "class_map.json"
    class_map.write_text(json.dumps({f"K-{index}": index for index in range(DRUGS)}))
    compare = compare or Compare(shard_size=4, batch_size=2)
    config = Config(
        paths=Paths(folder / "exp"),
        data=Data(
            Validation(single, Combo(combo / "images", combo / "labels" if labels else None)),
            class_map,
        ),
        classification=Classification(num_classes=DRUGS),
        export=Export(compare=compare),
    )
    return GateRun(config, Selection(), threads=1, run_dir=folder / "exp" / "runs" / "tag-abc")


Change = Callable[[list[Sample]], list[Sample]]


def unchanged(samples: list[Sample]) -> list[Sample]:
    return samples


def content_of(sample: Sample) -> bytes:
    """What stands for the SHA-256 of an image's bytes."""
    number = sample.path.stem[:2]
    return number.encode() * 16


def answer(
    run: GateRun,
    shard: Shard,
    *,
    change: Change = unchanged,
    unreadable: Sequence[str] = (),
    content: Callable[[Sample], bytes] = content_of,
    height: float = 9,
    reference: dict[str, Any] | None = None,
    exactness: Mapping[str, Any] | None = ERRORS,
) -> Outcome:
    """What a shard yields whose candidate answers as the reference does."""
    cell = shard.cell
    of_cell = run.plan.samples(replace(cell, hard=False))
    samples = run.plan.part(of_cell, shard)
    read = [sample for sample in change(samples) if sample.id not in unreadable]
    common = {
        "samples": len(samples),
        "unreadable": {sample.id: "gone" for sample in samples if sample.id in unreadable},
        "strides": [8, 16, 32],
        "exactness": exactness[cell.stage] if exactness and shard.index == 1 else None,
        "seconds": 0.5,
        "reference": reference or {},
    }
    if not read:
        return Outcome(shard.id, **common)
    columns: Columns
    if cell.stage == "classification":
        ref = np.eye(DRUGS, dtype=np.float32)[[sample.label or 0 for sample in read]] * height
        columns = ClassificationRecorder().columns(read, [], ref, ref)
    else:
        rows = np.zeros((len(read), 84, 7), np.float32)
        rows[:, 3] = (24, 24, 40, 40, 0.9, 0, 1)
        geometries = [Geometry(ratio=1.0, left=0, top=0, width=64, height=64)] * len(read)
        recorder = DetectionRecorder((8, 16, 32), (64, 64), Nms())
        columns = recorder.columns(read, geometries, rows, rows[..., :6].copy())
    contents = np.frombuffer(b"".join(map(content, read)), np.uint8).reshape(len(read), 32)
    path = run.run_dir / "records" / f"{shard.id}.records"
    digest = write_records(path, {**columns, "content": contents})
    return Outcome(shard.id, file=str(path), sha256=digest, **common)


def judge_cell(
    run: GateRun,
    stage: str,
    mode: str = "full",
    *,
    order: int = 1,
    **answers: Any,
) -> CellResult:
    cell = Cell(stage, "onnx", "auto", "fp32", mode)
    ledger = Ledger(run)
    shards = [shard for shard in run.plan.shards() if shard.cell == cell]
    ledger.expect(f"test[{shard.id}]" for shard in shards)
    for shard in shards[::order]:  # in whatever order they report
        ledger.add(answer(run, shard, **answers).as_dict())
    (result,) = ledger.results()
    return result


@pytest.mark.parametrize("stage", ["classification", "detection"])
def test_a_cell_is_judged_from_the_records_of_its_shards(tmp_path: Path, stage: str) -> None:
    result = judge_cell(make_run(tmp_path), stage)
    assert result.verdict == Verdict("equivalent")
    assert (result.samples, result.measured, len(result.outcomes)) == (12, 12, 3)
    assert result.seconds == 1.5
    assert result.exactness == ERRORS[stage]
    # The largest of its parts, each stride its own.
    if stage == "classification":
        assert result.metrics["logits_exactness"] == pytest.approx(2)
    else:
        assert result.metrics["box_exactness"] == pytest.approx(3)
        strides = [row["box_exactness"] for row in result.metrics["per_stride"]]
        assert strides == pytest.approx([1, 3, 2])
    assert result.metrics["precision_bits"] == pytest.approx(math.log2(8 / 2e-6), abs=3)
    assert result.metrics["samples"] == 12
    report = build_report([result], make_run(tmp_path).config, facts())
    check(report)
    assert report["stages"][stage]["compare"]["sampled_images"] == 12


@pytest.mark.parametrize("stage", ["classification", "detection"])
def test_the_result_of_a_cell_does_not_depend_on_its_shards(tmp_path: Path, stage: str) -> None:
    results = []
    for size, order in ((2, 1), (4, -1), (6, 1), (12, 1), (64, 1)):
        run = make_run(tmp_path / f"{size}", Compare(shard_size=size, batch_size=2))
        results.append(judge_cell(run, stage, order=order))
    assert {len(result.outcomes) for result in results} == {6, 3, 2, 1}
    for result in results:
        assert result.metrics == results[0].metrics
        assert result.worst == results[0].worst
        assert result.fingerprint == results[0].fingerprint
        assert (result.samples, result.measured) == (12, 12)


def with_last(**changes: Any) -> Change:
    """The last sample of all, changed; its content is the same."""

    def change(samples: list[Sample]) -> list[Sample]:
        *others, last = samples
        return [*others, replace(last, **changes)] if "11.png" in last.id else samples

    return change


BOX = Box(0, 0.5, 0.5, 0.25, 0.3)


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("classification", [unchanged, with_last(id="K-2/11x.png"), with_last(label=0)]),
        (
            "detection",
            [
                unchanged,
                with_last(id="11x.png"),
                with_last(boxes=()),
                with_last(boxes=(BOX,)),
                with_last(boxes=(BOX, BOX)),
                with_last(boxes=(replace(BOX, class_id=1),)),
            ],
        ),
    ],
)
def test_the_fingerprint_covers_names_and_labels(
    tmp_path: Path, stage: str, changes: list[Change]
) -> None:
    run = make_run(tmp_path)
    found = [judge_cell(run, stage, change=change).fingerprint for change in changes]
    assert len(set(found)) == len(changes)
    assert None not in found
    assert judge_cell(run, stage, change=unchanged).fingerprint == found[0]


def test_scenes_without_labels_have_another_fingerprint_than_scenes_without_pills(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path)
    without_pills, without_labels = (
        judge_cell(run, "detection", change=with_last(boxes=boxes)) for boxes in ((), None)
    )
    assert without_pills.metrics["map_images"] != without_labels.metrics["map_images"]
    assert without_pills.fingerprint != without_labels.fingerprint


def test_the_fingerprint_covers_the_bytes_of_the_images(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    def another_last_bit(sample: Sample) -> bytes:
        *rest, last = content_of(sample)
        return bytes([*rest, last ^ (sample.id == "07.png")])

    plain, other = (
        judge_cell(run, "detection", content=content).fingerprint
        for content in (content_of, another_last_bit)
    )
    assert plain != other


def test_an_image_that_cannot_be_read_is_looked_at_and_not_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    whole = judge_cell(run, "detection")
    result = judge_cell(run, "detection", unreadable=["05.png"])
    assert (result.samples, result.measured) == (12, 11)
    assert result.verdict == Verdict("inconclusive", reason="1 of 12 images could not be read")
    assert result.unreadable == {"05.png": "gone"}
    assert result.fingerprint != whole.fingerprint
    # Of a shard whose images are all gone there are no records.
    result = judge_cell(run, "detection", unreadable=[f"{n:02}.png" for n in range(4)])
    assert (result.samples, result.measured) == (12, 8)
    assert result.verdict.reason == "4 of 12 images could not be read"
    result = judge_cell(run, "detection", unreadable=[f"{n:02}.png" for n in range(12)])
    assert (result.samples, result.measured, result.fingerprint) == (12, 0, None)
    assert result.verdict == Verdict("inconclusive", reason="not one image could be read")
    assert result.metrics == {}


def test_records_that_changed_are_inconclusive(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    ledger = Ledger(run)
    shards = [
        shard for shard in run.plan.shards() if shard.cell.id == "detection-onnx-auto-fp32-full"
    ]
    ledger.expect(f"test[{shard.id}]" for shard in shards)
    for shard in shards:
        ledger.add(answer(run, shard).as_dict())
    path = run.run_dir / "records" / f"{shards[1].id}.records"
    path.write_bytes(path.read_bytes()[:-1])
    (result,) = ledger.results()
    assert result.verdict.name == "inconclusive"
    assert "changed after they were written" in result.verdict.reason
    assert (result.samples, result.measured, result.metrics) == (12, 0, {})


def test_classes_are_counted_where_coverage_asks_for_them(tmp_path: Path) -> None:
    compare = Compare(shard_size=4, batch_size=2, min_classes=5, max_total=2)
    run = make_run(tmp_path, compare)

    def classes(stage: str, mode: str) -> list[int | None]:
        metrics = judge_cell(run, stage, mode).metrics
        return [metrics[f"classes_{of}"] for of in ("asked", "available", "covered", "missing")]

    assert classes("classification", "coverage") == [5, DRUGS, 2, 3]
    assert classes("classification", "full") == [None, DRUGS, DRUGS, None]
    # A detector is not asked for more classes than it has.
    assert classes("detection", "coverage") == [1, 1, 1, 0]
    unlabelled = make_run(tmp_path / "unlabelled", compare, labels=False)
    metrics = judge_cell(unlabelled, "detection", "coverage").metrics
    assert (metrics["classes_available"], metrics["classes_missing"]) == (0, 1)
    assert metrics["map_reason"] == "no labels"


def test_too_few_classes_are_a_breach_where_they_are_required(tmp_path: Path) -> None:
    for required, wanted, expected in (
        (False, 4, "equivalent"),
        (True, 4, "breach"),
        (True, DRUGS, "equivalent"),
    ):
        compare = Compare(
            shard_size=4, batch_size=2, min_classes=wanted, min_classes_required=required
        )
        run = make_run(tmp_path / f"{required}{wanted}", compare)
        result = judge_cell(run, "classification", "coverage")
        assert result.verdict.name == expected
        if expected == "breach":
            assert result.verdict.breaches == (Breach("classes_missing", 1, 0),)
        # Other modes ask for none.
        assert judge_cell(run, "classification", "smoke").verdict.name == "equivalent"


def test_a_cell_of_hard_samples_is_judged_by_itself(tmp_path: Path) -> None:
    compare = Compare(shard_size=4, batch_size=2, hard_per_bin=2, min_classes_required=True)
    run = make_run(tmp_path, compare)
    shards = [shard for shard in run.plan.shards() if shard.cell.hard]
    assert [shard.cell.id for shard in shards] == [
        "classification-onnx-auto-fp32-coverage-hard"
    ] * 2
    ledger = Ledger(run)
    ledger.expect(f"test[{shard.id}]" for shard in shards)
    # Unsure of all of them, as it may be of hard ones; of the others it would be untrained.
    unsure = np.float32(0.001)
    plain = judge_cell(run, "classification", "full", height=unsure)
    assert plain.verdict.name == "inconclusive"
    assert "is it trained?" in plain.verdict.reason
    # Fewer than the bins could hold: the last shard has none.
    ledger.add(answer(run, shards[0], height=unsure).as_dict())
    ledger.add(Outcome(shards[1].id).as_dict())
    (result,) = ledger.results()
    assert result.verdict == Verdict("equivalent")
    assert not any(name.startswith("classes_") for name in result.metrics)
    check(build_report([result], run.config, facts()))
    empty = Ledger(run)
    empty.expect(f"test[{shard.id}]" for shard in shards)
    for shard in shards:
        empty.add(Outcome(shard.id).as_dict())
    (result,) = empty.results()
    assert result.verdict.name == "inconclusive"
    assert "no image of the pool has a probability inside" in result.verdict.reason
    check(build_report([result], run.config, facts(exit_code=1)))


def test_which_weights_were_taken_stands_in_report_table_and_reason(tmp_path: Path) -> None:
    run, choice = make_run(tmp_path), "weights of the checkpoint's ema, beside model"
    trained = {"checkpoint_entry": "ema", "checkpoint_choice": choice, "notes": [choice]}
    result = judge_cell(run, "classification", reference=trained)
    assert result.verdict == Verdict("equivalent")
    report = build_report([result], run.config, facts())
    check(report)
    assert report["stages"]["classification"]["ckpt_entry"] == report["ckpt_entry"] == "ema"
    assert f"note: {choice}" in render(report, None)
    unsure = judge_cell(run, "classification", reference=trained, height=0)
    assert unsure.verdict.name == "inconclusive" and unsure.verdict.reason.endswith(f"({choice})")
    gone = judge_cell(run, "classification", reference=trained, unreadable=["K-0/00.png"])
    assert gone.verdict.name == "inconclusive" and choice not in gone.verdict.reason
    alone = judge_cell(run, "classification", reference={"checkpoint_entry": ""})
    assert build_report([alone], run.config, facts())["ckpt_entry"] is None


def test_what_was_skipped_for_one_reason_is_one_line(config: Config) -> None:
    skipped = {f"detection-onnx-auto-{each}-smoke": "no checkpoint" for each in ("fp32", "int8")}
    skipped["classification-onnx-auto-fp32-smoke"] = "no engine"
    report = build_report([make_result()], config, facts(skipped=skipped))
    lines = [line for line in render(report, "report.json") if line.startswith("SKIPPED")]
    assert lines == [
        "SKIPPED detection-onnx-auto-fp32-smoke and 1 more: no checkpoint",
        "SKIPPED classification-onnx-auto-fp32-smoke: no engine",
    ]


@pytest.mark.parametrize(
    ("exit_code", "why"), [(2, "interrupted before it ended"), (3, "its worker never reported")]
)
def test_why_a_shard_is_missing(config: Config, exit_code: int, why: str) -> None:
    lost = facts(missing=["a-shard"], exit_code=exit_code, complete=False)
    report = build_report([make_result()], config, lost)
    assert f"MISSING a-shard: {why}" in render(report, "report.json")
    page = render_page(report, Evidence(None, lambda stage: None))
    assert f"a-shard: {why}" in page


@pytest.mark.parametrize("breached", [True, False])
def test_how_lower_precision_is_judged_is_said_once(config: Config, breached: bool) -> None:
    execution = {
        "providers": ["CPUExecutionProvider"],
        "provider_options": {},
        "placement": {
            "provider": "CPUExecutionProvider",
            "compute_nodes": 16,
            "compute_nodes_on_provider": 16,
            "other_ops_elsewhere": {},
        },
        "precision": {
            "compute_nodes": 16,
            "compute_nodes_by_type": {"fp16": 16},
            "weight_only_nodes": 0,
        },
    }
    breaches = (Breach("mse_mean", 1.0, 1e-6),) if breached else ()
    result = make_result(verdict="breach" if breached else "within_tolerance", breaches=breaches)
    (outcome,) = result.outcomes
    result = replace(
        result, outcomes=(replace(outcome, candidate={**outcome.candidate, **execution}),)
    )
    flat = " ".join(" ".join(render(build_report([result], config, facts()), "p")).split())
    assert "the candidate is not in float32 and was judged as if it were: 16 compute nodes" in flat
    assert flat.count("--precision") == 1
    assert ("try: --precision fp16" in flat) == breached
