"""Which layers to keep in float, as table, page and report show it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pillsnap.config.settings import Config, Paths
from pillsnap.report import build_report
from pillsnap.report.evidence import Evidence
from pillsnap.report.lines import WIDTH
from pillsnap.report.page import render_page
from pillsnap.report.rows import cell_row
from tests.report.test_page import read
from tests.report.test_report import check, facts, make_result

CELL = "classification-onnx-auto-int8-smoke"


def loss(share: float, error: float = 0.0) -> dict[str, Any]:
    figure = "top1_mismatch_rate" if share else ""
    return {
        "share": share,
        "figure": figure,
        "shares": {"top1_mismatch_rate": share},
        "error": error,
    }


def layer(name: str, lowered: dict[str, Any]) -> dict[str, Any]:
    nodes = [f"{name}/Conv"]
    return {"name": name, "nodes": nodes, "modules": ["m"], "lowered": lowered, "kept": loss(2.0)}


FOUND: dict[str, Any] = {
    "images": 16,
    "all_images": 64,
    "margin": 0.5,
    "layers": [
        layer("/stem", loss(0.25, 0.01)),
        layer("/a/rather/long/path/to/a/module/of/a/network/<b>", loss(math.inf, math.inf)),
    ],
    "whole": loss(math.inf, math.inf),
    "kept": ["/stem"],
    "loss": loss(0.4, 0.1),
    "trade": [
        {"layers": 0, "size_bytes": 1_000_000, "latency_ms": 1.0, "loss": loss(math.inf)},
        {"layers": 1, "size_bytes": 1_500_000, "latency_ms": 1.5, "loss": loss(0.4)},
        {"layers": 2, "size_bytes": 4_000_000, "latency_ms": 2.0, "loss": loss(0.0)},
    ],
    "lists": {
        "nodes": "/stem/Conv",
        "torch": "m",
        "onnxruntime": "nodes_to_exclude=[\n    '<b>',\n]",
    },
    "calibrations": [
        {"method": "entropy", "static": loss(0.7), "kept": loss(0.3), "seconds": 12.0},
    ],
    "measured": 70,
    "problem": None,
    "seconds": 31.0,
}


def report_of(found: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    result = make_result(verdict="within_tolerance", precision="int8")
    run = facts(sensitivities={result.cell.id: found})
    report = build_report([result], Config(paths=Paths(tmp_path)), run)
    check(report)
    return report


def test_table_and_page_say_what_each_layer_costs_and_what_to_keep(tmp_path: Path) -> None:
    report = report_of(FOUND, tmp_path)
    lines = cell_row(report["cells"][0])
    assert all(len(line) <= WIDTH for line in lines)
    text = " ".join("\n".join(lines).split())
    for expected in (
        "costliest of 2 layers output error lowered alone kept alone",
        "network/<b> inf inf (flips) 2 (flips)",
        "/stem 1.0e-02 0.25 (flips)",
        "entropy 0.7 (flips) 0.3 (flips)",
        "keep in float 1 of 2 layers: /stem",
        "part of a tolerance that is lost: 0.4 (flips) with them, inf (flips) without, on 64",
    ):
        assert expected in text, expected
    html = render_page(report, Evidence(None, lambda stage: None))
    page = read(html)
    shown = " ".join(page.text.split())
    for expected in (
        "Which layers to keep in float",
        "Loss over size",
        "Loss over time",
        "/stem 1.0e-02 0.25 (flips) 2 (flips) keep",
        "entropy 0.7",
        "nodes_to_exclude=[",
    ):
        assert expected in shown, expected
    assert "&lt;b&gt;" in html and "<b>'" not in html
    labels = [str(each.get("aria-label")) for each in page.all("svg")]
    assert any(
        "0 in float 1, lost inf; 1 in float 1.5, lost 0.4; float32 4" in text for text in labels
    )


def test_a_set_that_was_not_found_and_a_problem_are_said(tmp_path: Path) -> None:
    none = {
        "kept": None,
        "loss": None,
        "lists": None,
        "calibrations": [],
        "problem": "too\nfew images",
    }
    report = report_of({**FOUND, **none, "layers": [], "trade": [], "whole": None}, tmp_path)
    text = " ".join("\n".join(cell_row(report["cells"][0])).split())
    assert "which layers to keep in float is not known: too few images" in text
    shown = read(render_page(report, Evidence(None, lambda stage: None))).text
    assert "is not known: too few images" in " ".join(shown.split())
    every = report_of({**FOUND, "kept": [], "whole": loss(0.1)}, tmp_path)
    text = " ".join("\n".join(cell_row(every["cells"][0])).split())
    assert "no layer need be kept in float in int8 part of a tolerance that is lost: 0.1" in text
