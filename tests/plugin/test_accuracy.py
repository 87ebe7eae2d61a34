"""A reference that is worse than it is known to be: what both engines share shows in no delta."""

from __future__ import annotations

import json

from tests.plugin.project import Project


def test_a_reference_that_falls_short_of_what_config_expects_is_inconclusive(
    project: Project,
) -> None:
    # A class map with two codes changed over: both engines are wrong alike on half of the photos.
    codes = {"K-0": 0, "K-1": 1, "K-2": 3, "K-3": 2}
    (project.path / "class_map.json").write_text(json.dumps(codes))
    project.settings["export"]["compare"] |= {"expected_top1": 0.95, "expected_map": 0.95}
    project.write_config()
    result = project.run("-m", "full")
    assert result.ret == 1
    report = project.report()
    found = {cell["stage"]: cell for cell in report["cells"]}
    classification = found["classification"]
    assert classification["verdict"] == "inconclusive" and not classification["breaches"]
    assert classification["accuracy"]["short"] and classification["accuracy"]["found"] == 0.5
    assert "config expects 0.95" in classification["reason"]
    # Eleven labelled scenes are too few to bound an mAP, which is said.
    assert found["detection"]["verdict"] == "equivalent"
    text = " ".join(" ".join(result.outlines).split())
    assert "reference: top-1 50.0 % of 24 (config 95 %)" in text
    assert "reference: mAP@0.5 100.0 %, @0.5:0.95 100.0 % over 12 images (config 95 %, not" in text
    assert "fewer than 20 labelled images" in text


def test_every_row_shows_how_good_the_reference_is(project: Project) -> None:
    result = project.run("-m", "smoke")
    assert result.ret == 0
    text = " ".join(" ".join(result.outlines).split())
    assert "reference: top-1 100.0 % of 12" in text and "reference: mAP@0.5 100.0 %" in text
    assert all(cell["accuracy"]["expected"] is None for cell in project.report()["cells"])
