"""Verdicts, exit codes and reports of real inner runs, without xdist, with -n 0 and with -n 2."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from PIL import Image

from tests.plugin.project import Project, Workers

SCALED_LOGITS = """
def fault(stage, batch, output):
    return output * 0.2 if stage == "classification" else output
"""

SHIFTED_BOXES = """
def fault(stage, batch, output):
    if stage == "detection":
        output[:, -4:, :2] += 3.0
    return output
"""


def cells(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cell["id"]: cell for cell in report["cells"]}


def test_healthy_candidate_passes(project: Project, workers: Workers) -> None:
    result = project.run("-m", "smoke", *workers)
    assert result.ret == 0
    report = project.report()
    assert [cell["verdict"] for cell in report["cells"]] == ["equivalent", "equivalent"]
    assert report["gate"] == {
        "verdict": "equivalent",
        "exit_code": 0,
        "complete": True,
        "missing": [],
        "skipped": {},
        "unmeasured": [],
        "breaches": [],
        "approvals": [],  # this engine has no files
        "latest": {"detection": None, "classification": None},
    }
    detection = cells(report)["detection-numpy-auto-fp32-smoke"]["metrics"]
    assert detection["reference_map_0_5"] == pytest.approx(1.0)
    assert detection["unmatched_rate"] == 0
    classification = cells(report)["classification-numpy-auto-fp32-smoke"]["metrics"]
    assert classification["reference_top1"] == 1.0
    assert classification["samples"] == 12
    page = project.report_path.with_suffix(".html")
    assert result.outlines[-2:] == [f"page: {page}", f"report: {project.report_path}"]
    html = page.read_text(encoding="utf-8")
    assert all(f'<section class="cell" id="{cell}">' in html for cell in cells(report))
    assert html.count("<image ") == 10  # the worst five of both cells, whoever ran them
    assert report["provenance"]["run"] in html


def words(lines: list[str]) -> str:
    """The terminal's lines as one, since its section wraps."""
    return " ".join(" ".join(lines).split())


FLIPS = "0 of 12 flipped: certifies 22 %"
BOXES = "0 of 22 boxes unmatched: certifies 13 %"


def test_what_the_sample_certifies_is_said(project: Project, workers: Workers) -> None:
    result = project.run("-m", "smoke", *workers)
    assert result.ret == 0
    assert f"  {FLIPS}; 0.1 % needs 2,995" in result.outlines
    assert f"  {BOXES}; 1 % needs 299 boxes" in result.outlines
    found = cells(project.report())["detection-numpy-auto-fp32-smoke"]["certified"]
    assert found["unmatched_rate"]["trials"] == 22
    assert found["unmatched_rate"]["certified_upper"] == pytest.approx(1 - 0.05 ** (1 / 22))
    assert found["unmatched_rate"]["certifies"] is False


def test_gate_strict_wants_more_samples(project: Project, workers: Workers) -> None:
    result = project.run("--gate-strict", *workers)
    assert result.ret == 1
    report = project.report()
    assert {cell["verdict"] for cell in report["cells"]} == {"breach"}
    assert {breach["figure"] for cell in report["cells"] for breach in cell["breaches"]} == {
        "unmatched_rate_certified",
        "top1_mismatch_rate_certified",
    }
    said = words(result.outlines)
    assert f"top1_mismatch_rate_certified 0.221 > 0.001 ({FLIPS}; 0.1 % needs 2,995)" in said
    assert f"unmatched_rate_certified 0.127 > 0.01 ({BOXES}; 1 % needs 299 boxes)" in said
    assert "likely: too few samples for --gate-strict" in said
    result.stdout.fnmatch_lines(["FAILED gate::classification-numpy-auto-fp32-smoke - *"])
    assert "--gate-strict" in report["provenance"]["command"].split()


def test_gate_strict_passes_where_the_sample_suffices(project: Project, workers: Workers) -> None:
    project.settings["export"]["compare"]["tolerances"] = {
        "strict": {"top1_mismatch_rate": 0.5, "unmatched_rate": 0.5}
    }
    project.write_config()
    result = project.run("-m", "smoke", "--gate-strict", *workers)
    assert result.ret == 0
    assert {cell["verdict"] for cell in project.report()["cells"]} == {"equivalent"}
    assert f"  {FLIPS}, within 50 %" in result.outlines
    assert f"  {BOXES}, within 50 %" in result.outlines


def test_breach_is_a_failed_test_with_a_reason(project: Project, workers: Workers) -> None:
    project.write_fault(SCALED_LOGITS)
    result = project.run("-m", "smoke", "--junitxml=junit.xml", *workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["FAILED gate::classification-numpy-auto-fp32-smoke - *mse_mean *> 1e-06*"]
    )
    report = project.report()
    cell = cells(report)["classification-numpy-auto-fp32-smoke"]
    assert cell["verdict"] == "breach"
    assert {breach["figure"] for breach in cell["breaches"]} >= {"mse_mean", "prob_err_max"}
    assert cell["looser_profile"] == "int8"
    assert cell["likely_causes"]
    assert report["gate"]["exit_code"] == 1
    assert report["compare"]["failed"]
    assert "mse_mean" in report["compare"]["failure_reason"]
    # The other stage stands by itself.
    assert cells(report)["detection-numpy-auto-fp32-smoke"]["verdict"] == "equivalent"
    junit = ElementTree.parse(project.path / "junit.xml").getroot()
    failures = {
        case.get("name"): case.find("failure").get("message")  # type: ignore[union-attr]
        for case in junit.iter("testcase")
        if case.find("failure") is not None
    }
    assert list(failures) == ["classification-numpy-auto-fp32-smoke"]
    assert re.search(r"mse_mean [\d.e-]+ > 1e-06", str(failures.popitem()[1]))


def test_shifted_boxes_of_one_stride_name_the_stride(project: Project, workers: Workers) -> None:
    project.write_fault(SHIFTED_BOXES)
    assert project.run("-m", "smoke", *workers).ret == 1
    cell = cells(project.report())["detection-numpy-auto-fp32-smoke"]
    assert cell["verdict"] == "breach"
    raw = [breach for breach in cell["breaches"] if breach["figure"] == "raw_box_err_px"]
    assert [breach["where"] for breach in raw] == ["stride 32"]
    assert any("stride 32" in cause for cause in cell["likely_causes"])


def test_extra_boxes_of_the_candidate_count(project: Project, workers: Workers) -> None:
    project.settings["export"]["compare"]["tolerances"] = {"profile": "practical"}
    project.write_config()
    project.write_fault(
        """
def fault(stage, batch, output):
    if stage == "detection":
        output[:, 0] = (50, 50, 60, 60, 0.8, 0)
    return output
"""
    )
    assert project.run("-m", "smoke", *workers).ret == 1
    cell = cells(project.report())["detection-numpy-auto-fp32-smoke"]
    assert cell["metrics"]["candidate_only"] == 12
    assert "unmatched_rate" in {breach["figure"] for breach in cell["breaches"]}


def test_drift_within_a_practical_profile_is_said(project: Project, workers: Workers) -> None:
    project.settings["export"]["compare"]["tolerances"] = {"profile": "practical"}
    project.write_config()
    project.write_fault(
        """
def fault(stage, batch, output):
    return output * 1.05 if stage == "classification" else output
"""
    )
    assert project.run("-m", "smoke", *workers).ret == 0
    verdicts = {cell["stage"]: cell["verdict"] for cell in project.report()["cells"]}
    assert verdicts == {"detection": "equivalent", "classification": "within_tolerance"}


def test_swapped_channels_on_one_side_breach(project: Project, workers: Workers) -> None:
    project.write_fault(
        """
def fault(stage, batch, output):
    return NumpyEngine(stage).run(batch[:, ::-1])[..., :6]
"""
    )
    assert project.run("-m", "smoke", "--stage", "classification", *workers).ret == 1
    (cell,) = project.report()["cells"]
    assert cell["verdict"] == "breach"
    assert cell["metrics"]["top1_mismatch_rate"] == 0.75  # all but green
    assert any("RGB/BGR" in cause for cause in cell["likely_causes"])


def test_output_that_is_not_finite_breaches(project: Project, workers: Workers) -> None:
    project.write_fault(
        """
def fault(stage, batch, output):
    output[0, 0] = np.nan
    return output
"""
    )
    result = project.run("-m", "smoke", *workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*not finite for * samples*"])
    for cell in project.report()["cells"]:
        assert cell["verdict"] == "breach"
        assert cell["breaches"][0]["figure"] == "non_finite"
        assert cell["metrics"]["non_finite"] == 6  # the first of every batch of two


def test_output_of_another_shape_breaches(project: Project, workers: Workers) -> None:
    project.write_fault("def fault(stage, batch, output):\n    return output[:, :-1]\n")
    assert project.run("-m", "smoke", *workers).ret == 1
    for cell in project.report()["cells"]:
        assert cell["verdict"] == "breach"
        assert "wrong shape" in cell["reason"]


def test_reference_without_signal_is_inconclusive(project: Project, workers: Workers) -> None:
    for path in (project.path / "single").rglob("*.png"):
        Image.new("RGB", (20, 20), (230, 30, 30)).save(path)
    result = project.run("-m", "smoke", "--stage", "classification", *workers)
    assert result.ret == 1
    (cell,) = project.report()["cells"]
    assert cell["verdict"] == "inconclusive"
    assert "one class" in cell["reason"]
    result.stdout.fnmatch_lines(["FAILED gate::classification-* - the reference*"])


def test_unreadable_image_is_named_and_fails(project: Project, workers: Workers) -> None:
    broken = project.path / "single" / "K-1" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    result = project.run("-m", "full", "--stage", "classification", *workers)
    assert result.ret == 1
    (cell,) = project.report()["cells"]
    assert list(cell["unreadable"]) == ["K-1/3.png"]
    assert cell["samples"] == 23
    assert cell["verdict"] == "inconclusive"
    assert cell["reason"] == "1 of 24 images could not be read"
    result.stdout.fnmatch_lines([f"*{broken}*"])
    # Nor do too few samples hide it.
    project.run("-m", "full", "--stage", "classification", "--gate-strict", *workers)
    (cell,) = project.report()["cells"]
    assert (cell["verdict"], cell["reason"]) == ("inconclusive", "1 of 24 images could not be read")


def test_crash_inside_an_item_is_inconclusive(project: Project, workers: Workers) -> None:
    project.write_fault("def fault(stage, batch, output):\n    raise RuntimeError('boom')\n")
    assert project.run("-m", "smoke", *workers).ret == 1
    report = project.report()
    assert {cell["verdict"] for cell in report["cells"]} == {"inconclusive"}
    assert all("boom" in cell["reason"] for cell in report["cells"])
    assert report["gate"]["complete"]


def test_other_precision_has_its_own_profile(project: Project, workers: Workers) -> None:
    model = project.path / "model.onnx"
    model.write_bytes(b"the numpy engine does not look inside")
    project.write_fault(SCALED_LOGITS)
    options = ("--stage", "classification", "--precision", "int8", "--precision", "fp32")
    result = project.run("-m", "smoke", *options, f"--candidate=classification={model}", *workers)
    assert result.ret == 1
    found = {
        cell["precision"]: (cell["profile"], cell["verdict"]) for cell in project.report()["cells"]
    }
    assert found == {"fp32": ("strict", "breach"), "int8": ("int8", "within_tolerance")}
