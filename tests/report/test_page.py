"""The page of a report: whatever it holds, it is whole, needs no network and shows text as text."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.detection import DetectionRecorder
from pillsnap.compare.records import Columns, write_records
from pillsnap.compare.verdict import Breach
from pillsnap.config.settings import Config, Nms, Paths
from pillsnap.core.errors import PillsnapError
from pillsnap.data.datasets import Dataset, Sample
from pillsnap.data.labels import Box
from pillsnap.gate.drawing import draw_page
from pillsnap.gate.finish import Finished
from pillsnap.pipeline.transforms import Geometry
from pillsnap.report import build_report, publish_report
from pillsnap.report.evidence import Evidence, find_evidence
from pillsnap.report.page import render_page
from pillsnap.report.page.samples import MOST_BYTES, SIDE, encode
from pillsnap.report.show import main
from tests.report.test_report import CLASSIFICATION, busy_report, facts, make_result

NONE = Evidence(None, lambda stage: None)
EVIL = "<script>alert('1')</script>&\u202e.png"

# Elements that have no end.
VOID = {"meta", "br"}


class Page(HTMLParser):
    """A page that was read: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.getpos())
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [
            found
            for name, found in self.elements
            if name == tag and attributes.items() <= found.items()
        ]


def read(html: str) -> Page:
    """The page, held to what is true of every one."""
    page = Page(html)
    names = {name for name, _ in page.elements}
    assert not names & {"script", "link", "iframe", "object", "img"}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "src", name
            if name == "href":
                assert str(value).startswith(("#", "data:image/jpeg;base64,")), value
    assert "default-src 'none'" in html and "@import" not in html
    for tag in ("svg", "span"):  # what is seen alone has a text beside
        for each in page.all(tag, role="img"):
            assert each["aria-label"]
    tables = re.findall(r"<table.*?</table>", html, re.DOTALL)
    assert all("<th scope=" in table or 'class="guesses"' in table for table in tables)
    ids = {each["id"] for _, each in page.elements if "id" in each}
    assert {each["href"] for each in page.all("a")} <= {f"#{name}" for name in ids}
    return page


def test_every_cell_and_all_that_is_missing_is_on_the_page(tmp_path: Path) -> None:
    report = busy_report(Config(paths=Paths(tmp_path)))
    page = read(render_page(report, NONE))
    shown = [each["id"] for each in page.all("section")]
    assert sorted(map(str, shown)) == sorted(cell["id"] for cell in report["cells"])
    assert shown[0] == "classification-tensorrt-tensorrt-fp32-coverage"  # the breach
    text = " ".join(page.text.split())
    for expected in (
        "pillsnap gate: breach",
        "1 of 6 cells lies outside the tolerances.",
        "The run is incomplete.",
        "detection-onnx-auto-fp32-full-s003of012: its worker never reported",
        "detection-torch-auto-fp32-smoke, skipped: no checkpoint: the images",
        "inconclusive",
        "within tolerance",
        "profile int8 would have held",
        "likely: normalisation",
        "3 flips are near ties",
        "flips: 0.25 beyond 0.001",
        "5 of 1,000,000,000 flipped: certifies",
        "pytest -m smoke",
        report["provenance"]["config_sha256"],
        "without pictures: the records of this cell are not there (any more)",
    ):
        assert expected in text, expected


def test_a_run_that_measured_nothing_has_a_page(tmp_path: Path) -> None:
    report = build_report([], Config(paths=Paths(tmp_path)), facts(exit_code=1))
    page = read(render_page(report, NONE))
    assert "Nothing was measured." in page.text and page.all("section") == []


def test_names_with_markup_stay_text(tmp_path: Path) -> None:
    flips = {"class_index": 1, "samples": 4, "flips": 2, "rate": 0.5}
    result = make_result(
        verdict="breach",
        reason=EVIL,
        ids=(EVIL,),
        unreadable={EVIL: EVIL},
        breaches=(Breach("prob_err_max", 1.0, 1e-4),),
        metrics={**CLASSIFICATION, "worst_classes": [flips]},
    )
    result = replace(result, data=Dataset(class_names={1: EVIL}))
    report = build_report([result], Config(paths=Paths(tmp_path)), facts(command=EVIL))
    html = render_page(report, NONE)
    page = read(html)
    assert "<script" not in html and "\u202e" not in html
    assert page.text.count("<script>alert('1')</script>&\\u202e.png") >= 5


def test_what_is_not_finite_is_shown(tmp_path: Path) -> None:
    result = make_result(
        verdict="breach",
        metrics={**CLASSIFICATION, "prob_err_max": float("nan"), "mse_mean": float("inf")},
        breaches=(Breach("mse_mean", float("inf"), 1e-6), Breach("non_finite", 3, 0)),
    )
    report = build_report([result], Config(paths=Paths(tmp_path)), facts())
    text = " ".join(read(render_page(report, NONE)).text.split())
    assert "mse: inf beyond 1e-06" in text and "non_finite" in text and "nan" in text


# ------------------------------------------------------------------------ with records and images

NAMES = {0: "K-0", 1: "K-1", 2: "<K-2>"}


SHARDS = {
    "classification": {"-s001of002": slice(0, 2), "-s002of002": slice(2, 4)},
    "detection": {"": slice(None)},
}


def photos(samples: list[Sample]) -> Columns:
    ref = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]] * 6
    cand = ref + np.float32(1e-4)
    cand[0, 0], cand[1] = 5, (0, 0, 6)
    return ClassificationRecorder().columns(samples, [], ref, cand)


def scenes(samples: list[Sample]) -> Columns:
    rows = np.zeros((4, 84, 7), np.float32)
    rows[:, 3] = (4, 4, 24, 24, 0.9, 0, 1)
    rows[:, 40] = (30, 10, 44, 40, 0.8, 0, 1)
    other = rows[..., :6].copy()
    other[:, [3, 40], :5] += np.float32(0.001)
    other[0, 40, 4] = 0
    geometries = [Geometry(ratio=1.0, left=0, top=0, width=64, height=48)] * 4
    labels = Box(0, 14 / 64, 14 / 48, 20 / 64, 20 / 48), Box(0, 37 / 64, 25 / 48, 14 / 64, 30 / 48)
    of_boxes = [replace(sample, label=None, boxes=labels) for sample in samples]
    recorder = DetectionRecorder((8, 16, 32), (64, 64), Nms())
    return recorder.columns(of_boxes, geometries, rows, other)


COLUMNS = {"classification": photos, "detection": scenes}


def make_run(folder: Path) -> tuple[dict[str, Any], Evidence]:
    """A report of both stages, four samples each, with its records and images: the candidate is
    unsure of the first photo, names the second otherwise, and loses a box of the first scene."""
    run_dir, results, data = folder / "runs" / facts().run, [], {}
    for stage in ("classification", "detection"):
        samples, contents = [], []
        for number in range(4):
            path = folder / stage / f"{number}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            Image.new("RGB", (64, 48), (60 * number, 90, 120)).save(path)
            samples.append(Sample(path.name, path.parent, number % 3))
            contents.append(hashlib.sha256(path.read_bytes()).digest())
        content = np.frombuffer(b"".join(contents), np.uint8).reshape(4, 32)
        result = make_result(stage, samples=4, ids=("0.png", "1.png"))
        columns = {**COLUMNS[stage](samples), "content": content}
        # A ragged column is not cut by samples, so the detector has one shard.
        for shard, part in SHARDS[stage].items():
            path = run_dir / "records" / f"{result.cell.id}{shard}.records"
            write_records(path, {name: column[part] for name, column in columns.items()})
        results.append(result)
        data[stage] = Dataset(samples, class_names=NAMES if stage == "classification" else {})
    config = Config(paths=Paths(folder), source=folder / "config.yaml")
    return build_report(results, config, facts()), Evidence(run_dir, data.get)


def test_records_and_images_are_drawn(tmp_path: Path) -> None:
    report, evidence = make_run(tmp_path)
    page = read(render_page(report, evidence))
    titles = re.findall(r"Error by sample: [\w ]+|How sure both engines are", page.text)
    assert titles == [
        "Error by sample: prob err",
        "How sure both engines are",
        "Error by sample: box px",
        "Error by sample: score",
        "How sure both engines are",
    ]
    # Of both sides in two images each, one of them lost.
    boxes = [str(each["class"]) for each in page.all("rect") if "box" in str(each["class"]).split()]
    assert sorted(boxes) == ["box candidate"] * 3 + ["box reference"] * 3 + ["box reference alone"]
    assert len(page.all("image")) == 4
    text = " ".join(page.text.split())
    assert "boxes: 2 reference, 1 candidate, 1 without a partner" in text
    assert "same class: 3" in text and "another class: 1" in text
    assert "boxes of one alone: 1" in text and "boxes of both: 7" in text
    assert "K-1 99.51 <K-2> 99.51" in text  # the two most probable of the second photo
    assert "tolerance 0.05" in text and "torch's own rounding of the box outputs" in text
    assert "class 0 15 1 6.7 %" in text
    assert "Change of mAP@0.5:0.95, by class class labelled boxes" in text
    assert "class 0 8 100 % 87.1 % -13 % 25 %" in text and "small (< 32² px) 8 100 %" in text


def test_an_image_that_is_another_by_now_is_not_shown(tmp_path: Path) -> None:
    report, evidence = make_run(tmp_path)
    Image.new("RGB", (64, 48), "red").save(tmp_path / "classification" / "0.png")
    (tmp_path / "detection" / "0.png").unlink()
    (tmp_path / "detection" / "1.png").unlink()
    page = read(render_page(report, evidence))
    assert len(page.all("image")) == 1
    assert page.text.count("without images: none is where it was, with the bytes it had") == 1


@pytest.mark.parametrize("damage", ["cut", "gone", "text", "half"])
def test_records_that_are_not_whole_are_not_drawn(tmp_path: Path, damage: str) -> None:
    report, evidence = make_run(tmp_path)
    for path in (tmp_path / "runs").rglob("*.records"):
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-900])
        elif damage == "text":
            path.write_text("[]\n")
        elif damage == "gone" or path.name.endswith(("-s002of002.records", "smoke.records")):
            path.unlink()
    page = read(render_page(report, evidence))
    assert page.all("image") == [] and len(page.all("section")) == 2
    assert len(re.findall("records of this cell (cannot|are not)", page.text)) == 2


def test_the_run_of_an_earlier_report_is_found_where_it_lies(tmp_path: Path) -> None:
    report, evidence = make_run(tmp_path)
    path = tmp_path / "export" / "reports" / "one.json"
    assert find_evidence(report, path).run_dir == evidence.run_dir
    shutil.copytree(tmp_path / "runs", tmp_path / "export" / "runs")
    for name in ("..", "", "../runs/20250131-235959-nogit-abc123", "another"):
        report["provenance"]["run"] = name
        assert find_evidence(report, path).run_dir is None


def test_a_breach_shows_the_depth_at_which_it_starts(tmp_path: Path) -> None:
    layers = {
        "method": "healthy export",
        "compared": 4,
        "floor": 1e-5,
        "places": [
            {
                **{"node": "/fc/<Gemm>", "op_type": "Gemm", "module": "fc", "bracket": []},
                **{"bracket_size": 1, "relative_error": 0.05},
            }
        ],
        "curve": [[0.0, 1e-7], [0.25, 2e-7], [0.5, 0.05], [1.0, 0.01]],
    }
    diagnosis = {
        **dict.fromkeys(("budget", "pipeline", "causes", "repro")),
        **{"samples": [], "layers": layers, "problems": [], "seconds": 1.0},
    }
    result = make_result(verdict="breach", breaches=(Breach("prob_err_max", 1.0, 1e-4),))
    known = facts(diagnoses={result.cell.id: diagnosis})
    report = build_report([result], Config(paths=Paths(tmp_path)), known)
    page = read(render_page(report, NONE))
    assert "Relative error over depth" in page.text
    assert "first that differs: /fc/<Gemm>" in page.text
    assert len(page.all("circle", **{"class": "mark"})) == 2  # in the plot, and what it means


def test_a_shown_image_is_small_whatever_it_shows() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    url, width, height = encode(noise)
    assert (width, height) == (SIDE, 360)
    assert len(url) <= MOST_BYTES * 4 / 3 + 30


# ---------------------------------------------------------------------------- when it is written


def finished(folder: Path) -> Finished:
    report, _ = make_run(folder)
    config = Config(paths=Paths(folder), source=folder / "config.yaml")
    path = publish_report(report, config, "name")
    return Finished([], report, 0, "name", path)


def test_the_page_lies_beside_its_report_or_there_is_none(tmp_path: Path) -> None:
    done = finished(tmp_path)
    page = tmp_path / "export" / "export_report.html"
    assert draw_page(done, tmp_path / "runs" / facts().run, wanted=True) == (page, None)
    assert "How sure both engines are" in page.read_text()
    assert draw_page(done, tmp_path, wanted=False) == (None, None)
    assert not page.exists()
    page.mkdir()  # in its way
    path, problem = draw_page(done, tmp_path, wanted=True)
    assert path is None and str(problem).startswith("the report has no page: cannot write")
    assert draw_page(replace(done, path=None), tmp_path, wanted=True) == (None, None)


def test_what_a_page_cannot_show_is_a_warning_and_leaves_no_older_page(tmp_path: Path) -> None:
    done = finished(tmp_path)
    draw_page(done, tmp_path, wanted=True)
    path, problem = draw_page(replace(done, report={}), tmp_path, wanted=True)
    assert path is None and str(problem).startswith("the report has no page: ")
    assert not (tmp_path / "export" / "export_report.html").exists()


def test_pillsnap_report_draws_the_page_of_an_old_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished(tmp_path).path
    assert path is not None
    assert main([str(path)]) == 0
    assert not path.with_suffix(".html").exists()
    assert main([str(path), "--html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [f"page: {path.with_suffix('.html')}", f"report: {path}"]
    page = read(path.with_suffix(".html").read_text(encoding="utf-8"))
    assert len(page.all("section")) == len(json.loads(path.read_text())["cells"]) == 2
    assert "How sure both engines are" in page.text  # the run's records were found


@pytest.mark.parametrize(
    ("place", "value"),
    [(("gate", "missing"), True), (("provenance", "run"), None), (("cells",), "[" * 100_000)],
)
def test_what_only_looks_like_a_report_is_a_message(
    tmp_path: Path, place: tuple[str, ...], value: object
) -> None:
    path = finished(tmp_path).path
    assert path is not None
    report = json.loads(path.read_text())
    if isinstance(value, str):  # deeper than any parser goes
        path.write_text(value)
    else:
        report[place[0]][place[1]] = value
        path.write_text(json.dumps(report))
    with pytest.raises(PillsnapError, match="this is no report"):
        main([str(path), "--html"])


def test_a_pipe_in_the_place_of_an_image_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    data = Dataset(samples=[Sample("a.png", tmp_path, 0)])
    assert Evidence(None, lambda stage: data).images("classification", {"a.png": b"x"}) == {}
