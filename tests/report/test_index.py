"""The index of a folder of reports: faster than they are, and never of another opinion."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pillsnap.report.index import MAX_BYTES, ReportIndex, index_of
from tests.report.report_folder import SHA, Reports

LONG_AGO_NS = time.time_ns() - 3600 * 10**9


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path)


def verdicts(folder: Path) -> list[str]:
    return [each.verdict for each in ReportIndex(folder).judgements(SHA)]


def age(path: Path) -> None:
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def change(path: Path) -> None:
    """Another verdict in as many bytes."""
    path.write_text(path.read_text().replace('"equivalent"', '"unheardof_"'))


def test_a_report_is_read_once_and_again_where_it_has_changed(reports: Reports) -> None:
    paths = [reports.add("equivalent") for _ in "ab"]
    for path in paths:
        age(path)
    assert verdicts(reports.folder) == ["equivalent", "equivalent"]
    change(paths[0])
    age(paths[0])  # by size and time it is what it was
    assert verdicts(reports.folder) == ["equivalent", "equivalent"]
    os.utime(paths[0])
    assert sorted(verdicts(reports.folder)) == ["equivalent", "unheardof_"]
    paths[0].unlink()
    assert verdicts(reports.folder) == ["equivalent"]
    reports.add("breach")
    assert sorted(verdicts(reports.folder)) == ["breach", "equivalent"]


def test_what_changes_within_a_tick_of_the_clock_is_seen(reports: Reports) -> None:
    path = reports.add("equivalent")
    before = path.stat()
    assert verdicts(reports.folder) == ["equivalent"]
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert verdicts(reports.folder) == ["unheardof_"]


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)


def of_other_code(path: Path) -> None:
    content = json.loads(path.read_text())
    content["version"] = "0" * 64
    path.write_text(json.dumps(content).replace("equivalent", "breach"))


def of_other_types(path: Path) -> None:
    path.write_text(path.read_text().replace('"equivalent"', "5"))


def replaced(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        *map(text, ("", "[]", "5", "[" * 100_000, '{"version": 1}', '"\\ud800"')),
        huge,
        of_other_code,
        of_other_types,
        replaced(os.mkfifo),
        replaced(Path.mkdir),
        replaced(lambda path: path.symlink_to("/dev/zero")),
        replaced(lambda path: path.symlink_to("loop")),
    ],
)
def test_an_index_may_be_anything(reports: Reports, damage: Callable[[Path], None]) -> None:
    age(reports.add("equivalent"))
    assert verdicts(reports.folder) == ["equivalent"]
    damage(index_of(reports.folder))
    for _ in range(2):
        assert verdicts(reports.folder) == ["equivalent"]


def test_of_two_that_write_at_once_either_may_win(reports: Reports) -> None:
    first, second = ReportIndex(reports.folder), ReportIndex(reports.folder)
    age(reports.add("equivalent"))
    assert len(first.judgements(SHA)) == 1
    old = index_of(reports.folder).read_bytes()
    age(reports.add("breach"))
    assert len(second.judgements(SHA)) == 2
    index_of(reports.folder).write_bytes(old)  # the slower one
    assert sorted(verdicts(reports.folder)) == ["breach", "equivalent"]
    assert len(first.judgements(SHA)) == 2


def test_names_need_not_be_text(reports: Reports) -> None:
    path = reports.add("equivalent")
    path.rename(path.with_name(os.fsdecode(b"caf\xe9\n.json")))
    for _ in range(2):
        (found,) = ReportIndex(reports.folder).judgements(SHA)
        assert found.report == r"caf\udce9\n.json"
    assert index_of(reports.folder).is_file()


def test_a_missing_folder_stays_missing(tmp_path: Path) -> None:
    assert verdicts(tmp_path / "reports") == []
    assert not (tmp_path / "reports").exists()
