"""Reports to compare that are JSON, and odd: one message that names the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pillsnap.core.errors import PillsnapError
from pillsnap.plugin.command import main as pillsnap
from pillsnap.report.against.command import main
from pillsnap.report.against.earlier import find_earlier
from pillsnap.report.models.execution import Performance
from tests.report.test_against import LOGITS, TIMES, Runs, photos

SPEED = {**dict.fromkeys(Performance.model_fields), **TIMES}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def change(path: Path, keys: Sequence[Any], value: Any) -> None:
    """Set what lies there to a value; ... removes it."""
    report = json.loads(path.read_text())
    place = report
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(report))


METRICS = ("cells", 0, "metrics")
ODD = [
    (("provenance",), ..., "Field required"),
    (("provenance", "config"), 3.5, "a valid string"),
    (("environment", "load"), "much", "a valid number"),
    (("gate",), [], "a valid dictionary"),
    (("stages", "classification", "compare"), 1, "a valid dictionary"),
    (("cells",), ..., "Field required"),
    (("cells", 0, "metrics"), None, "a valid dictionary"),
    ((*METRICS, "prob_err_max"), "x", "a valid number"),
    ((*METRICS, "mse_mean"), 10**400, "a valid number"),
    ((*METRICS, "candidate_top1"), [1], "a valid number"),
    ((*METRICS, "top1_distinct_samples"), None, "a valid integer"),
    ((*METRICS, "top1_distinct_samples"), -1, "greater than or equal to 0"),
    (("cells", 0, "verdict"), "fine", "Input should be 'equivalent'"),
    (("cells", 0, "stage"), "shapes", "no such task: shapes"),
    (("cells", 0, "tolerances"), [1], "a valid dictionary"),
    (("cells", 0, "performance"), {**SPEED, "single_runs": "x"}, "a valid integer"),
    (("cells", 0, "performance"), {**SPEED, "latency_p95_ms": None}, "no 95th percentile"),
    (("non_finite",), {"cells[7].metrics.mse_mean": "nan"}, "cells[7].metrics.mse_mean is not"),
]


@pytest.mark.parametrize(("keys", "value", "got"), ODD)
@pytest.mark.parametrize("odd", ["old", "newer"])
def test_what_is_odd_is_no_report_and_the_file_is_named(
    runs: Runs, odd: str, keys: Sequence[Any], value: Any, got: str
) -> None:
    paths = [runs.add(name, photos(LOGITS)) for name in ("old", "newer")]
    bad = runs.folder / "reports" / f"{odd}.json"
    change(bad, keys, value)
    for options in ([], ["--html"], ["--fail-on-regression"]):
        with pytest.raises(PillsnapError) as caught:
            main([*map(str, paths), *options])
        assert caught.value.what == "this is no report"
        where, said, *_ = str(caught.value).splitlines()[1:]
        assert where.split()[1].rstrip(":") == str(bad)
        assert said.startswith("  got:") and got in said


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("{", "Expecting property name enclosed in double quotes"),
        ("[" * 100_000, "values nested too deep"),
        (json.dumps({"cells": []}), "Field required"),
        ("[]", "a valid dictionary"),
    ],
)
def test_it_is_exit_code_2_and_no_python(
    runs: Runs, capsys: pytest.CaptureFixture[str], content: str, got: str
) -> None:
    good, bad = runs.add("old", photos(LOGITS)), runs.folder / "bad.json"
    bad.write_text(content)
    for paths in ((good, bad), (bad, good)):
        assert pillsnap(["compare", *map(str, paths), "--fail-on-regression"]) == 2
        error = capsys.readouterr().err
        assert f"where:    {bad}" in error and got in error


def test_a_page_of_values_that_do_not_fit_names_the_later_report(runs: Runs) -> None:
    old, new = (runs.add(name, photos(LOGITS)) for name in ("old", "newer"))
    breach = {"figure": 1, "value": "x", "limit": 0, "where": 2}
    for keys, value in (
        (("environment", "packages"), 0),
        (("cells", 0), {**json.loads(new.read_text())["cells"][0], "breaches": [breach]}),
    ):
        text = new.read_text()
        change(new, keys, value)
        change(new, ("cells", 0, "verdict"), "breach")
        with pytest.raises(PillsnapError, match="this is no report") as caught:
            main([str(old), str(new), "--html"])
        assert f"where:    {new}" in str(caught.value)
        new.write_text(text)


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", "\ud800"])
@pytest.mark.parametrize("key", ["config", "run"])
def test_a_name_that_none_has_is_of_a_run_that_is_gone(runs: Runs, key: str, name: str) -> None:
    old, new = (runs.add(each, photos(LOGITS)) for each in ("old", "newer"))
    change(old, ("provenance", key), name)
    assert main([str(old), str(new)]) == 0


def test_of_a_folder_what_is_no_report_is_left_out(runs: Runs) -> None:
    good = runs.add("old", photos(LOGITS))
    own = json.loads(runs.add("z" * 9, photos(LOGITS)).read_text())
    late = runs.add("y", photos(LOGITS))
    change(late, METRICS, {"mse_mean": "x"})
    cells = [{"id": own["cells"][0]["id"], "metrics": {"mse_mean": 0}}]
    junk = {"cells": cells, "gate": {"complete": True, "exit_code": 0}, "provenance": {"run": "r"}}
    late.with_name("x.json").write_text(json.dumps(junk))
    assert find_earlier(good.parent, own) == good
