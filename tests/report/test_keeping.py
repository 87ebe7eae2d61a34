"""Old reports go, but for those that a verdict on a file still rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillsnap.config.runtime import Runtime
from pillsnap.report.keeping import prune_reports
from tests.report.report_folder import CPU, CUDA, SLOW, Reports


class Runs(Reports):
    """Reports under the names that runs give them."""

    @staticmethod
    def name_of(day: int) -> str:
        return f"202501{day:02}-000000-nogit-smoke-{day:06x}.json"

    def days(self) -> list[int]:
        """Of the reports that are left."""
        return sorted(int(path.name[6:8]) for path in self.folder.glob("2025*.json"))

    def prune(self, keep: int) -> list[int]:
        prune_reports(self.folder.parent, keep, "")
        return self.days()


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    (tmp_path / "reports").mkdir()
    return Runs(tmp_path / "reports")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.touch()
    return path


def test_reports_of_files_that_are_gone_go_with_the_oldest(runs: Runs, tmp_path: Path) -> None:
    for number in range(5):
        verdict = "inconclusive" if number else "equivalent"
        runs.add(verdict, sha256=f"{number:064x}", path=tmp_path / "x")
    assert runs.prune(5) == [1, 2, 3, 4, 5]
    assert runs.prune(2) == [4, 5]
    prune_reports(tmp_path, 1, Runs.name_of(4))  # the clock need not go on
    assert runs.days() == [4, 5]


def test_what_a_file_that_exists_owes_its_verdict_to_stays(runs: Runs, model: Path) -> None:
    runs.add("equivalent", path=model)
    runs.add("equivalent", path=model, provider=CUDA)
    runs.add("equivalent", path=model, provider=CUDA)
    runs.add("equivalent", path=model)
    runs.add("inconclusive", path=model, complete=False)  # decides nothing
    runs.add("equivalent", path="gone", sha256="1" * 64)
    before = runs.standing(), runs.standing(CUDA)
    assert runs.prune(1) == [3, 4, 6]
    assert (runs.standing(), runs.standing(CUDA)) == before
    model.unlink()
    assert runs.prune(1) == [6]


def test_a_pass_with_an_optimizer_off_is_kept_beside_one_with_all(runs: Runs, model: Path) -> None:
    runs.add("equivalent", path=model, off=["PadFusion"])
    runs.add("equivalent", path=model)
    runs.add("equivalent", path=model)
    assert runs.prune(1) == [1, 3]
    assert runs.standing(runtime=Runtime(disabled_optimizers=("PadFusion",))).approved


def test_a_breach_outlasts_any_number_of_passes(runs: Runs, model: Path) -> None:
    runs.add("breach", "full", path=model, provider=None)  # and what has opened it is not known
    runs.add("breach", "full", path=model)
    runs.add("breach", "full", path=model, breaches=[SLOW])
    for _ in range(4):
        runs.add("equivalent", "full", path=model)
    assert runs.prune(2) == [1, 2, 6, 7]
    assert not runs.approved


def test_a_breach_is_of_the_bytes_wherever_they_lie(runs: Runs, tmp_path: Path) -> None:
    runs.add("breach", "full", path=tmp_path / "gone.onnx")
    for number in range(4):
        runs.add("equivalent", sha256=f"{number:064x}", path=tmp_path / "other.onnx")
    assert runs.prune(2) == [1, 4, 5]
    (tmp_path / "back.onnx").touch()
    runs.add("equivalent", path=tmp_path / "back.onnx")
    assert not runs.approved


# Arguments of Reports.add; most reports of a file are of the same.
CELLS = st.fixed_dictionaries(
    {
        "verdict": st.sampled_from(["equivalent", "equivalent", "breach", "inconclusive"]),
        "mode": st.sampled_from(["full", "full", "smoke"]),
        "content": st.sampled_from(["a", "a", "b"]),
        "config": st.sampled_from(["a", "a", "a", "b"]),
        "provider": st.sampled_from([CPU, CPU, CPU, CUDA, None]),
        "complete": st.sampled_from([True, True, False]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS, min_size=3, max_size=8), CELLS)
def test_no_standing_changes_now_or_with_the_next_report(
    tmp_path_factory: pytest.TempPathFactory, earlier: list[dict[str, Any]], later: dict[str, Any]
) -> None:
    standings = []
    for keep in (1, 100):
        (folder := tmp_path_factory.mktemp("law") / "reports").mkdir()
        (folder.parent / "model.onnx").touch()
        runs, found = Runs(folder), []
        for number, facts in enumerate(earlier):
            runs.add(**facts, day=1 + number // 2, path="model.onnx")  # some at the same time
        runs.prune(keep)
        found += [runs.standing(), runs.standing(CUDA)]
        runs.add(**later, path="model.onnx")
        standings.append([*found, runs.standing(), runs.standing(CUDA)])
    assert standings[0] == standings[1]


def test_images_that_let_a_breach_go_are_not_forgotten(runs: Runs, model: Path) -> None:
    runs.add("breach", "full", path=model, content="a")
    runs.add("equivalent", "full", path=model, content="b")
    runs.add("equivalent", "full", path=model, content="a")
    runs.add("equivalent", path=model)
    assert runs.approved
    assert runs.prune(1) == [1, 2, 3, 4]
    assert runs.approved


def test_where_a_file_is(runs: Runs, model: Path, tmp_path: Path) -> None:
    runs.add("equivalent", path=model, sha256="1" * 64)
    runs.add("equivalent", path=model, sha256="2" * 64)  # written over the other
    runs.add("equivalent", path="/moved/with/its/project/model.onnx", sha256="3" * 64)
    runs.add("equivalent", path=tmp_path / "gone.onnx", sha256="4" * 64)
    runs.add("equivalent", sha256="5" * 64)  # not known
    runs.add("equivalent", path=tmp_path / "gone.onnx", sha256="6" * 64)
    assert runs.prune(1) == [2, 3, 5, 6]


def test_nothing_else_is_removed(runs: Runs) -> None:
    for _ in range(3):
        runs.add("equivalent", path="gone")
    others = [
        "notes.json",
        "20240101-000000-nogit-smoke.json",
        "20240101-000000-nogit-smoke-0000zz.json",
    ]
    for name in others:
        (runs.folder / name).write_text("{}")
    (runs.folder / "20240101-000000-nogit-smoke-000000.json").mkdir()
    assert runs.prune(1) == [3]
    left = {path.name for path in runs.folder.iterdir()} - {Runs.name_of(3)}
    assert left == {*others, "20240101-000000-nogit-smoke-000000.json"}
