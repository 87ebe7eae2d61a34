"""What report and table say of the file itself: its types, its free axes, its speed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillsnap.compare.figures.performance import performance_figures
from pillsnap.compare.float32_speed import with_float32_speed
from pillsnap.compare.result import CellResult
from pillsnap.compare.verdict import Breach
from pillsnap.config.settings import Config, Paths
from pillsnap.report import build_report
from pillsnap.report.table import render
from tests.report.test_report import CLASSIFICATION, DIGEST, check, facts, make_result

CPU = "CPUExecutionProvider"
QUANTIZED = {
    "precision": "int8",
    "method": "dynamic",
    "size_bytes": 400_000,
    "nodes_low": 16,
    "nodes_float": 0,
    "float_nodes": [],
    "freed": [],
    "source_sha256": DIGEST,
    "calibration_sha256": "",
    "calibration_images": 0,
    "calibration_method": None,
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(paths=Paths(exp_dir=tmp_path / "exp"), source=tmp_path / "config.yaml")


def with_facts(result: CellResult, **changes: Any) -> CellResult:
    """The result with a session, and `changes` of its outcome."""
    candidate = {
        **result.outcomes[0].candidate,
        "provider_options": {CPU: {}},
        "placement": {
            "provider": CPU,
            "compute_nodes": 16,
            "compute_nodes_on_provider": 16,
            "compute_nodes_by_provider": {CPU: 16},
            "other_ops_elsewhere": {},
        },
        **changes.pop("candidate", {}),
    }
    return replace(result, outcomes=(replace(result.outcomes[0], candidate=candidate, **changes),))


def types(**by_type: int) -> dict[str, Any]:
    return {
        "precision": {
            "compute_nodes": 16,
            "compute_nodes_by_type": by_type,
            "weight_only_nodes": 0,
        }
    }


def timed(seconds: float, **others: Any) -> dict[str, Any]:
    return performance_figures([{"runs": [[16, seconds]], **others}], None, contended=False)


def shown(config: Config, *results: CellResult) -> tuple[list[dict[str, Any]], str]:
    """The cells of a report of these, and the section as one line."""
    report = build_report(results, config, facts())
    check(report)
    return report["cells"], " ".join(" ".join(render(report, None)).split())


def test_types_stand_beside_the_provider(config: Config) -> None:
    whole = with_facts(make_result(), candidate=types(fp32=16))
    (cell,), text = shown(config, whole)
    assert cell["execution"]["precision"]["compute_nodes_by_type"] == {"fp32": 16}
    assert "CPU: 16 of 16 compute nodes, in fp32" in text
    assert "not in float32" not in text
    # An engine need not prove them.
    (cell,), text = shown(config, with_facts(make_result()))
    assert cell["execution"]["precision"] is None
    assert "CPU: 16 of 16 compute nodes" in text
    assert "compute nodes, in" not in text


def test_a_lower_file_that_is_judged_as_float32_is_noted(config: Config) -> None:
    mixed = types(int8=12, fp32=4)
    _, text = shown(config, with_facts(make_result(), candidate=mixed))
    assert "CPU: 16 of 16 compute nodes, 12 in int8, 4 in fp32" in text
    assert "note: classification: the candidate is not in float32 and was judged as if" in text
    _, text = shown(config, with_facts(make_result(precision="int8"), candidate=mixed))
    assert "not in float32" not in text
    breach = make_result("classification", "breach", breaches=(Breach("mse_mean", 1.0, 0.1),))
    _, text = shown(config, with_facts(breach, candidate=mixed))
    assert "try: --precision int8, which is for files in INT8" in text
    _, text = shown(config, with_facts(breach, candidate=types(fp32=16)))
    assert "--precision" not in text


@pytest.mark.parametrize("metrics", [CLASSIFICATION, CLASSIFICATION | {"logits_exactness": 99.0}])
@pytest.mark.parametrize("far", [0.0, 1e-6, 0.0254, float("inf")])
def test_the_row_says_where_answers_depend_on_the_batch(
    config: Config, far: float, metrics: dict[str, Any]
) -> None:
    batching = {
        "batch_sizes": [16, 1, 3],
        "input_sizes": [[96, 96]],
        "images": 4,
        "drift": {"prob_err_max": far, "logit_err_max": far},
    }
    result = make_result(metrics=metrics)
    (cell,), text = shown(config, with_facts(result, batching=batching))
    assert cell["batching"]["batch_sizes"] == [16, 1, 3]
    said = f"depends on the batch it is in: prob err {far:.2g} (4 images in batches of 1, 3 and 16)"
    assert (said in text) is (far > 1e-4)


def test_a_fixed_batch_size_has_no_drift(config: Config) -> None:
    batching = {"batch_sizes": [16], "input_sizes": [[64, 64]], "images": 0, "drift": None}
    (cell,), text = shown(config, with_facts(make_result("detection"), batching=batching))
    assert cell["batching"]["drift"] is None
    assert "depends on the batch" not in text


def test_why_one_image_has_no_time_is_said(config: Config) -> None:
    performance = timed(1.0, alone={"seconds": [], "problem": "it takes four"})
    (cell,), text = shown(config, replace(make_result(), performance=performance))
    assert cell["performance"]["single_problem"] == "it takes four"
    assert "note: classification: one image alone could not be timed: it takes four" in text
    assert "; one image alone could not be timed" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, ", 2 x float32"), (2.0, ", 0.5 x float32 (slower than float32)")],
)
def test_int8_is_held_against_the_float32_cell_of_its_own_file(
    config: Config, seconds: float, words: str
) -> None:
    low = replace(
        with_facts(make_result(precision="int8"), candidate={"quantized": QUANTIZED}),
        performance=timed(seconds, alone={"seconds": []}),
    )
    whole = replace(make_result(), performance=timed(1.0))
    first, second = with_float32_speed([whole, low])
    assert first is whole
    assert second.performance is not None
    assert second.performance["fp32_compared"] == "batches"
    _, text = shown(config, second)
    assert words in text
    assert ("slower" in text) is ("slower" in words)
    # Not against another file, another provider's, or one that was timed among others.
    of_other = {**QUANTIZED, "source_sha256": "another"}
    for a, b in (
        (whole, with_facts(low, candidate={"quantized": of_other})),
        (replace(whole, cell=replace(whole.cell, provider="cuda")), low),
        (replace(whole, performance={**timed(1.0), "contended": True}), low),
        (replace(whole, performance=None), low),
    ):
        assert with_float32_speed([a, b]) == [a, b]


def test_a_float32_file_that_was_timed_beside_is_named_so(config: Config) -> None:
    times = {"alone": {"seconds": [0.2]}, "float32_alone": {"seconds": [0.1]}}
    _, text = shown(config, replace(make_result(precision="int8"), performance=timed(1.0, **times)))
    assert "0.5 x float32 alone (slower than float32)" in text
