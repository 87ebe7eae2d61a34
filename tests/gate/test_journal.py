"""The journal of a run: which one is gone on with, and what its shards yielded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillsnap.compare.outcome import Outcome
from pillsnap.core.errors import PillsnapError
from pillsnap.gate.journal import (
    RunLock,
    begin,
    find_unfinished,
    finish,
    prune,
    read_outcome,
    write_outcome,
)

laws = settings(max_examples=80, deadline=None, database=None)

KEY, OTHER = "a" * 64, "b" * 64


def make_run(runs: Path, name: str, key: str = KEY, *, done: bool = False) -> Path:
    run_dir = runs / name
    run_dir.mkdir()
    begin(run_dir, key)
    if done:
        finish(run_dir)
    return run_dir


def found(runs: Path, key: str = KEY) -> str | None:
    """Name of the run that would be gone on with; its lock is given back."""
    result = find_unfinished(runs, key)
    if result is None:
        return None
    run_dir, lock = result
    lock.close()
    return run_dir.name


HOLD = """
import sys
from pathlib import Path
from pillsnap.gate.journal import RunLock
lock = RunLock(Path(sys.argv[1]))
taken = lock.take()
print(taken, flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(run_dir: Path, code: str = HOLD) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a run's lock, as its controller does."""
    command = [sys.executable, "-c", code, str(run_dir)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
            yield process
        finally:
            process.kill()


def can_take(run_dir: Path) -> bool:
    """Whether another process can take a run's lock."""
    code = HOLD.replace("sys.stdin.read()", "")
    command = [sys.executable, "-c", code, str(run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout == "True\n"


NAMES = [
    "20250130-235959-1a2b3c4-zzzzzz",
    "20250131-000000-nogit-aaaaaa",
    "20250131-000001-1a2b3c4-bbbbbb",
]


def test_the_newest_unfinished_run_is_gone_on_with(tmp_path: Path) -> None:
    for name in (NAMES[1], NAMES[2], NAMES[0]):  # not in the order they were made in
        make_run(tmp_path, name)
    assert found(tmp_path) == NAMES[2]
    finish(tmp_path / NAMES[2])
    assert found(tmp_path) == NAMES[1]
    finish(tmp_path / NAMES[1])
    assert found(tmp_path) == NAMES[0]
    finish(tmp_path / NAMES[0])
    assert found(tmp_path) is None


def test_a_run_of_something_else_is_left_alone(tmp_path: Path) -> None:
    make_run(tmp_path, NAMES[0])
    make_run(tmp_path, NAMES[2], OTHER)
    assert found(tmp_path) == NAMES[0]
    assert found(tmp_path, OTHER) == NAMES[2]
    assert found(tmp_path, "c" * 64) is None
    assert found(tmp_path, KEY[:-1]) is None


def test_a_run_that_is_still_going_is_left_alone(tmp_path: Path) -> None:
    older, newer = (make_run(tmp_path, name) for name in NAMES[:2])
    with held_elsewhere(newer) as controller:
        assert found(tmp_path) == older.name
        assert found(tmp_path) == older.name  # and stays so
        assert not can_take(newer)
        # However it ends, its lock goes with it.
        controller.kill()
        controller.wait(30)
        assert found(tmp_path) == newer.name


def test_a_process_that_the_holder_forked_does_not_keep_its_lock(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, NAMES[0])
    forked = HOLD.replace("print", "import os; os.fork() or print")
    with held_elsewhere(run_dir, forked) as controller:
        assert found(tmp_path) is None
        controller.kill()
        controller.wait(30)
        assert found(tmp_path) == run_dir.name


def test_the_run_that_is_found_is_locked(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, NAMES[0])
    result = find_unfinished(tmp_path, KEY)
    assert result is not None
    path, lock = result
    assert path == run_dir
    assert not can_take(run_dir)
    assert find_unfinished(tmp_path, KEY) is None
    lock.close()
    assert can_take(run_dir)
    assert found(tmp_path) == run_dir.name


def test_a_lock_is_of_one_run_and_one_holder(tmp_path: Path) -> None:
    locks = [RunLock(tmp_path / "new" / name) for name in ("a", "a", "b")]
    assert [lock.take() for lock in locks] == [True, False, True]
    assert locks[0].take()  # it is held already
    locks[0].close()
    assert locks[1].take()
    for lock in locks[1:]:
        lock.close()


def test_looking_for_a_run_leaves_no_file_open(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    run_dirs = [make_run(tmp_path, name) for name in NAMES]
    with held_elsewhere(run_dirs[0]), held_elsewhere(run_dirs[2]):
        before = descriptors()
        for _ in range(3):
            assert found(tmp_path) == NAMES[1]
            assert found(tmp_path, OTHER) is None
        assert descriptors() == before


def test_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    assert found(tmp_path / "nowhere") is None
    assert found(tmp_path) is None
    (tmp_path / "file").write_text("no folder")
    assert found(tmp_path / "file") is None
    (tmp_path / "99999999-empty").mkdir()
    for number, text in enumerate(
        ("", "{", "[]", '"text"', "null", "\0", "{}", '{"key": null}', f'{{"key": ["{KEY}"]}}')
    ):
        run_dir = tmp_path / f"9999999{number}-broken"
        run_dir.mkdir()
        (run_dir / "run.json").write_text(text)
    folder = tmp_path / "99999999-folder" / "run.json"
    folder.mkdir(parents=True)
    latin = tmp_path / "99999999-latin"
    latin.mkdir()
    (latin / "run.json").write_bytes(b'{"key": "\xe9"}')
    assert found(tmp_path) is None
    make_run(tmp_path, NAMES[0])
    assert found(tmp_path) == NAMES[0]


def test_half_a_note_is_no_run_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(self: Path, data: str) -> int:
        with self.open("w") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device", str(self))

    run_dir = tmp_path / NAMES[0]
    run_dir.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full_disk)
        with pytest.raises(PillsnapError, match="No space left"):
            begin(run_dir, KEY)
    assert found(tmp_path) is None
    assert [path.name for path in run_dir.iterdir()] == ["run.json"]


def test_finishing_may_be_repeated(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, NAMES[0])
    assert found(tmp_path) == NAMES[0]
    finish(run_dir)
    finish(run_dir)
    assert found(tmp_path) is None


# ----------------------------------------------------------------------------------- outcomes

SHARD = "detection-onnx-auto-fp32-full-s003of012"
STRANGE = b"K-1/\xff.png".decode(errors="surrogateescape")

OUTCOME = Outcome(
    SHARD,
    samples=64,
    inputs=KEY,
    file="/exp/runs/r/records/x.records",
    sha256=OTHER,
    unreadable={"정제/사진.png": "it is empty\nor no image", STRANGE: "gone"},
    non_finite=["a.png"],
    reference={"params_million": 0.1 + 0.2},
    candidate={"providers": ["CPUExecutionProvider"], "dynamic_axes": True, "opset": None},
    strides=[8, 16, 32],
    exactness={"images": 2, "parts": [{"kind": "box", "stride": 8, "signal": 1e-300}]},
    seconds=1 / 3,
).as_dict()


def test_an_outcome_comes_back_to_the_last_digit(tmp_path: Path) -> None:
    assert read_outcome(tmp_path, SHARD) is None
    write_outcome(tmp_path, SHARD, OUTCOME)
    content = read_outcome(tmp_path, SHARD)
    assert content == OUTCOME
    assert Outcome(**content) == Outcome(**OUTCOME)
    # Of this shard and this run alone.
    assert read_outcome(tmp_path, SHARD.replace("s003", "s004")) is None
    assert read_outcome(tmp_path / "other", SHARD) is None
    write_outcome(tmp_path, SHARD, {**OUTCOME, "samples": 1})
    assert read_outcome(tmp_path, SHARD) == {**OUTCOME, "samples": 1}


json_st = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@laws
@given(content=st.dictionaries(st.text(), json_st, min_size=1, max_size=4))
def test_any_outcome_of_builtins_comes_back(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_outcome(folder, SHARD, content)
    assert read_outcome(folder, SHARD) == content


@laws
@given(data=st.data())
def test_an_outcome_that_is_not_whole_is_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_outcome(folder, SHARD, OUTCOME)
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    whole = path.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:length])
    assert read_outcome(folder, SHARD) is None
    # It can be written anew.
    write_outcome(folder, SHARD, OUTCOME)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("text", [b"[]", b"null", b"1", b'"x"', b"{}", b"\xff\xfe", b"{]"])
def test_other_json_is_no_outcome(tmp_path: Path, text: bytes) -> None:
    write_outcome(tmp_path, SHARD, OUTCOME)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert json.loads(path.read_bytes()) == OUTCOME
    path.write_bytes(text)
    assert read_outcome(tmp_path, SHARD) is None


def test_outcomes_and_the_end_are_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = make_run(tmp_path, NAMES[0])
    write_outcome(run_dir, SHARD, OUTCOME)
    before = sorted(run_dir.rglob("*"))

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        for write in (
            lambda: write_outcome(run_dir, SHARD, {"samples": 1}),
            lambda: write_outcome(run_dir, "another", {"samples": 1}),
            lambda: finish(run_dir),
        ):
            with pytest.raises(PillsnapError, match="No space left"):
                write()
    assert sorted(run_dir.rglob("*")) == before
    assert read_outcome(run_dir, SHARD) == OUTCOME
    assert found(tmp_path) == NAMES[0]


def test_old_runs_are_removed_and_what_somebody_needs_stays(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    runs.mkdir()
    reports.mkdir()
    names = [f"2025013{day}-235959-1a2b3c4-00000{day}" for day in range(6)]
    for name in names:
        make_run(runs, name, done=True)
        write_outcome(runs / name, "shard", {"a": 1})
    (runs / "notes of mine").mkdir()
    (reports / "20250130-235959-1a2b3c4-smoke+full-000000.json").touch()
    (reports / "20250132-235959-1a2b3c4-smoke-999999.json").touch()  # of another run
    with held_elsewhere(runs / names[1]):
        prune(runs, 2, reports)
    left = {path.name for path in runs.iterdir()}
    assert left == {"notes of mine", names[0], names[1], names[4], names[5]}
    assert read_outcome(runs / names[0], "shard") == {"a": 1}
    prune(runs, 2, tmp_path / "gone")
    assert {path.name for path in runs.iterdir()} == {"notes of mine", names[4], names[5]}
