"""Names, keys and metadata from elsewhere forge no line, steer no terminal, run in no table."""

from __future__ import annotations

import csv
import io
import json
import logging
import pickle
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pillsnap.compare.outcome import Outcome
from pillsnap.config.settings import Config, Paths
from pillsnap.core.checkout import Checkout
from pillsnap.core.errors import ConfigError, DataError, PillsnapError
from pillsnap.core.logrecords import open_log
from pillsnap.core.printable import printable_json
from pillsnap.gate.same_file import find_mixup
from pillsnap.infer import outputs
from pillsnap.plugin.scoreboard import Scoreboard
from pillsnap.report.table import explain, render
from tests.plugin.project import Project

SOURCES = Path(outputs.__file__).parents[1]

# Clears the screen, starts lines, turns the writing round, ends in a byte that is no character.
EVIL = "\x1b[2J\x9b1m\ngate: equivalent\r\u2028\u202e\udcff"
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]")


def assert_one_line(text: str) -> None:
    assert not HIDDEN.search(text)
    assert "\n" not in text
    text.encode()


def test_every_part_of_an_error_is_printable() -> None:
    error = PillsnapError(f"no {EVIL}", where=EVIL, got=EVIL, expected=EVIL, hint=f"try {EVIL}")
    lines = str(error).split("\n")
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["where", "got", "expected", "try"]
    for line in (*lines, error.what):
        assert_one_line(line)


def test_an_error_of_several_tells_each_on_its_own_lines() -> None:
    parts = [ConfigError("a", where=EVIL), ConfigError("b")]
    lines = str(ConfigError("2 problems", details=parts)).split("\n")
    assert [lines[0], lines[1], lines[3]] == ["2 problems", "a", "b"]
    assert_one_line(lines[2])


def test_an_error_that_travels_says_the_same() -> None:
    error = DataError(f"no {EVIL}", where=EVIL, hint="look")
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.what) == (DataError, str(error), error.what)


def test_no_logger_is_opened_but_in_one_place() -> None:
    found = {
        path.name
        for path in SOURCES.rglob("*.py")
        if "getLogger(__name__)" in path.read_text(encoding="utf-8")
    }
    assert found == set()


@pytest.fixture
def logged() -> io.StringIO:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    log = open_log("pillsnap.tests")
    log.handlers, log.propagate = [handler], False
    return stream


def test_a_log_record_is_one_line(logged: io.StringIO) -> None:
    logging.getLogger("pillsnap.tests").warning("%s is no %r, %d of %.1f", EVIL, EVIL, 3, 0.5)
    text = logged.getvalue()
    assert text.endswith("3 of 0.5\n")
    assert_one_line(text[:-1])


def test_an_error_in_the_log_keeps_its_own_lines(logged: io.StringIO) -> None:
    error = DataError("no", where=EVIL)
    logging.getLogger("pillsnap.tests").warning("failed: %s", error)
    assert logged.getvalue() == f"failed: {error}\n"


def test_a_traceback_in_the_log_starts_no_line_of_its_own(logged: io.StringIO) -> None:
    try:
        raise ValueError(EVIL)
    except ValueError:
        logging.getLogger("pillsnap.tests").exception("failed")
    first, *rest = logged.getvalue().rstrip("\n").split("\n")
    assert first == "failed"
    assert all(line.startswith("  ") for line in rest)
    for line in rest:
        assert_one_line(line)


def test_a_breach_names_its_samples_on_lines_of_the_table() -> None:
    cell = {
        "verdict": "breach",
        "breaches": [{"figure": "flips", "value": 1.0, "limit": 0.5, "where": EVIL}],
        "looser_profile": None,
        "profile": "strict",
        "likely_causes": [EVIL],
        "worst_samples": [EVIL],
        "precision": "fp32",
        "execution": None,
    }
    for line in explain(cell):
        assert line.startswith("  ")
        assert_one_line(line)


def test_all_of_the_table_is_printable() -> None:
    gate = {
        "skipped": {"s": EVIL},
        "unmeasured": [EVIL],
        "missing": [EVIL],
        "verdict": None,
        "complete": False,
    }
    stage = {"compare": {"notes": [EVIL]}}
    report = {
        "gate": {**gate, "exit_code": 1},
        "cells": [],
        "against": {
            **dict.fromkeys(("report", "run", "changes", "settings"), ()),
            "problem": EVIL,
        },
        "stages": {"classification": stage},
        "environment": {"problems": [EVIL]},
        "provenance": Checkout("1234567", reason=EVIL).as_dict() | {"git_sha": "1234567"},
    }
    for line in render(report, f"/{EVIL}/report.json", EVIL):
        assert_one_line(line)


def test_a_model_that_was_swapped_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / EVIL.replace("\udcff", "")
    path.write_bytes(b"x")
    assert_one_line(find_mixup([Outcome("s", candidate={"path": str(path), "sha256": "0"})]) or "")


def test_the_score_of_the_proof_is_printable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = "pillsnap.plugin.scoreboard"
    monkeypatch.setattr(f"{module}.build_report", lambda *_: {"complete": False})
    monkeypatch.setattr(f"{module}.render", lambda _: iter([f"uncaught: {EVIL}"]))
    board = Scoreboard(Config(Paths(tmp_path)))
    board._found["proof-trial"].append({})
    board.pytest_sessionfinish(None)  # type: ignore[arg-type]
    for line in board._lines:
        assert_one_line(line)


def test_json_means_what_it_meant_and_shows_what_is_hidden() -> None:
    value = {"name": EVIL, "알약": ["é", "\x7f", "\U000e0001"]}
    text = printable_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(text) == value
    assert "알약" in text
    for line in text.split("\n"):
        assert_one_line(line)


FORMULAS = [
    "=HYPERLINK(1)",
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    '"=1',
    "\uff1d1",
    "a;=1",
    'a;"=1',
]


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_no_cell_of_a_table_runs(text: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"r{suffix}"
    box = {"xyxy": [-3.5, 0.0, 1.0, 2.0], "confidence": 0.5, "pill": {"code": text}}
    results: list[dict[str, object]] = [
        {"image": text, "error": text},
        {"image": f"{text}{EVIL}", "boxes": [box]},
    ]
    with outputs.open_results(path) as write:
        for result in results:
            write(result)
    content = path.read_text()
    for line in content.split("\n"):
        assert_one_line(line)
    if suffix == ".jsonl":
        assert [json.loads(line) for line in content.splitlines()] == results
        return
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    assert rows[1]["x1"] == "-3.5"
    assert float(rows[1]["box_confidence"]) == 0.5
    for cell in (rows[0]["image"], rows[0]["error"], rows[1]["image"], rows[1]["code"]):
        assert not any(re.match('[\\s"]*[=+\\-@\uff1d]', part) for part in cell.split(";"))


def test_names_of_images_and_their_errors_in_a_run(project: Project) -> None:
    name = "\x1b[2J\nFAKED passed.png"
    (project.path / "single/K-0" / name).write_text("no image")
    (project.path / "single/K-0" / "\x1b[3Jgood.png").write_bytes(
        (project.path / "single/K-0/0.png").read_bytes()
    )
    project.settings["export"]["compare"]["sample_count"] = 100
    project.write_config()
    project.write_fault(
        "def fault(stage, batch, output):\n    output[...] = np.nan\n    return output\n"
    )
    result = project.run("-m", "full", "--stage", "classification", "-v")
    assert result.ret == 1
    shown = result.stdout.str() + result.stderr.str()
    assert r"\x1b[2J\nFAKED" in shown
    assert "\x1b" not in shown
    assert not any(line.startswith("FAKED") for line in shown.split("\n"))
    text = project.report_path.read_text()
    assert "\x1b" not in text


def test_keys_and_values_of_a_config(project: Project) -> None:
    project.settings[EVIL.replace("\udcff", "")] = 1
    project.settings["classification"]["num_classes"] = "\x1b[2J\nFAKED"
    (project.path / "config.yaml").write_text(yaml.safe_dump(project.settings))
    result = project.run("-m", "smoke")
    assert result.ret == 4
    shown = result.stdout.str() + result.stderr.str()
    assert r"\x1b[2J" in shown
    assert "\x1b" not in shown
    assert not any(line.startswith("FAKED") for line in shown.split("\n"))


def test_classes_that_the_map_does_not_know(project: Project) -> None:
    folder = project.path / "single" / "\x1b[2J\nFAKED"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "0.png")
    result = project.run("-m", "smoke", "--stage", "classification")
    assert result.ret != 0
    shown = result.stdout.str() + result.stderr.str()
    assert r"\x1b[2J" in shown
    assert "\x1b" not in shown
