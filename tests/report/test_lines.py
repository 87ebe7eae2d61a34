"""Lines of the terminal's section about a graph that differs, and about what avoids a cause."""

from __future__ import annotations

from typing import Any

from pillsnap.report.findings import diagnosis_lines
from pillsnap.report.rows import _graph, _read
from pillsnap.report.table import explanations

COMPARED: dict[str, Any] = {
    "compared_with": {"exporter": "dynamo", "opset": 18, "sha256": "0" * 64, "reused": True},
    "identical": False,
    "count": 7,
    "differences": [
        {"kind": "added", "node": f"Clip {number}", "text": "added behind Relu a"}
        for number in range(7)
    ],
    "made_otherwise": ["torch 2.8.0, here 2.14.1"],
    "own": True,
    "altered": False,
    "reason": None,
}


def test_the_first_five_differences_are_named_and_all_counted() -> None:
    text = _graph(COMPARED)
    by = "dynamo, opset 18; torch 2.8.0, here 2.14.1"
    assert text.startswith(f"graph: 7 differences from a fresh export ({by}): Clip 0 added behind")
    assert text.endswith("Clip 4 added behind Relu a; …")
    one = {**COMPARED, "count": 1, "differences": COMPARED["differences"][:1]}
    assert _graph(one).endswith("): Clip 0 added behind Relu a")
    same = {**COMPARED, "identical": True, "count": 0, "differences": []}
    assert _graph(same) == f"graph: identical to a fresh export ({by})"
    without = {**dict.fromkeys(COMPARED), "reason": "a golden bundle"}
    assert _graph(without) == "graph not compared: a golden bundle"


def test_a_difference_that_is_shared_out_has_its_unit() -> None:
    budget = {"total": 0.24, "unit": "boxes an image", "percent": {"network": 100.0, "nms": 0.0}}
    found = {**dict.fromkeys(("layers", "causes", "pipeline", "repro")), "budget": budget}
    cell = {"verdict": "breach", "diagnosis": {**found, "problems": []}}
    assert diagnosis_lines(cell) == [
        "  difference by stage (0.24 boxes an image): network 100 %, nms 0 %"
    ]


def test_what_a_breach_would_take_is_said_once_a_figure() -> None:
    breaches = [
        {"figure": figure, "value": value, "limit": 8.0, "where": where}
        for figure, value, where in (
            *(("box_exactness", value, "stride") for value in (4880.0, 7400.0, 5050.0)),
            ("raw_box_err_px", 3.0, "stride 8"),
            ("raw_box_err_px", None, "stride 16"),
            ("latency_p95_ms", 5.0, "budget"),
        )
    ]
    cell = {
        **{"verdict": "breach", "breaches": breaches, "profile": "strict", "precision": "fp32"},
        **{"looser_profile": None, "likely_causes": ["x"], "worst_samples": [], "execution": None},
    }
    assert explanations(cell)[0].endswith(
        "; it would take box_exactness 7.4e+03, raw_box_err_px inf"
    )


def test_what_avoids_a_cause_stands_behind_it() -> None:
    found: dict[str, Any] = {
        **dict.fromkeys(("layers", "budget", "pipeline", "repro")),
        "causes": {
            **{"in_words": "optimizer Pad fusion", "hint": "runtime.disabled_optimizers: [x]"},
            "tried": [{}],
        },
        "problems": [],
    }
    cell = {"verdict": "breach", "diagnosis": found}
    assert diagnosis_lines(cell) == [
        "  cause: optimizer Pad fusion",
        "  to avoid it: runtime.disabled_optimizers: [x]",
    ]
    found["causes"]["hint"] = None
    assert diagnosis_lines(cell) == ["  cause: optimizer Pad fusion"]


def test_a_row_says_how_a_file_was_read_and_what_was_compared_of_it() -> None:
    rows = ((8, 0, 0.0), (16, 2, 0.0), (32, 0, 1e-5))
    names = ("stride", "reference_boxes", "raw_box_err_px")
    seen = {"per_stride": [dict(zip(names, row, strict=True)) for row in rows]}

    def read(**parts: Any) -> str:
        layout = {"name": "output0", "outputs": ["output0"], "compared": "outputs", "nms": None}
        return _read({**layout, "batch_size": None, **parts}, seen)

    assert read() == "layout output0 (output0)"
    assert read(batch_size=8).endswith("; batches filled up to 8")
    assert read(batch_size=1).endswith("; one image at a time")
    parts = {"name": "probabilities", "outputs": ["y"], "compared": "probabilities"}
    assert read(**parts) == "layout probabilities (y): compared by probabilities"
    inside = {"conf_threshold": 0.25, "iou_threshold": 0.7, "max_detections": 300}
    one = read(name="end-to-end", compared="one-to-one", nms=inside)
    assert (
        ": compared by the one-to-one head, conf 0.25, at most 300; raw outputs are of these" in one
    )
    assert read(name="nms", compared="boxes", nms=inside) == (
        "layout nms (output0): compared after NMS, conf 0.25, IoU 0.7, at most 300; raw outputs "
        "are not to be had, and no box is of stride 8"
    )
