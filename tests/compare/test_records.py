"""Records on disk: what is written comes back, whole, column by column, and in any cut."""

from __future__ import annotations

import hashlib
import json
import tempfile
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillsnap.compare.records import (
    Columns,
    Records,
    RecordsError,
    concatenate,
    ragged,
    unragged,
    write_records,
)
from pillsnap.core.errors import PillsnapError

laws = settings(max_examples=60, deadline=None, database=None)


def make_columns(ids: list[str], counts: list[int], seed: int = 0) -> dict[str, Any]:
    """Columns of every kind that the recorders write."""
    rng = np.random.default_rng(seed)
    boxes = [rng.normal(size=(count, 6)).astype(np.float32) for count in counts]
    return {
        "id": np.array(ids),
        "label": np.arange(len(ids), dtype=np.int64) - 1,
        "mse": rng.normal(size=len(ids)),
        "finite": rng.random(len(ids)) < 0.5,
        "score_err": rng.normal(size=(len(ids), 3)).astype(np.float32),
        "content": rng.integers(0, 256, size=(len(ids), 32), dtype=np.uint8),
        **ragged("boxes", boxes, 6),
        **ragged("pairs", [row[:, :2] for row in boxes], 2, np.float64),
    }


RAGGED = (("boxes", 6, np.float32), ("pairs", 2, np.float64))


def cut(columns: Columns, start: int, end: int) -> Columns:
    """The columns of samples start..end, as a shard of its own would have them."""
    own = {
        name: column
        for base, width, dtype in RAGGED
        for name, column in ragged(base, unragged(columns, base)[start:end], width, dtype).items()
    }
    plain = {name: column[start:end] for name, column in columns.items() if name not in own}
    # A shard's ids are only as wide as its own longest.
    return {**plain, "id": np.array(plain["id"].tolist()), **own}


@contextmanager
def written(parts: Sequence[Columns]) -> Iterator[Records]:
    """The parts as files, and the records over them."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, part in enumerate(parts):
            path = Path(folder) / f"{number}.records"
            files.append((path, write_records(path, part)))
        yield Records(files)


def assert_equal(found: Columns, expected: Columns) -> None:
    assert list(found) == list(expected)
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)
        assert found[name].dtype == column.dtype, name


IDS = ["K-001/0.png", "정제/사진 1.png", "pilule-é/𝛼.png", "x"]  # noqa: RUF001


def test_round_trip(tmp_path: Path) -> None:
    columns = make_columns(IDS, [2, 0, 0, 5])
    columns["mse"][1] = np.nan
    path = tmp_path / "records" / "shard.records"
    digest = write_records(path, columns)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = Records([(path, digest)])
    assert_equal(found, columns)
    assert found["id"].tolist() == IDS
    assert [len(rows) for rows in unragged(found, "boxes")] == [2, 0, 0, 5]


def test_a_column_need_not_be_contiguous(tmp_path: Path) -> None:
    square = np.arange(12.0).reshape(3, 4)
    columns = {"turned": square.T, "second": np.arange(8)[::2], "backwards": np.arange(4)[::-1]}
    with written([columns]) as records:
        assert_equal(records, columns)


def test_records_are_a_mapping() -> None:
    columns = make_columns(["a", "b"], [1, 2])
    with written([columns, columns]) as records:
        assert len(records) == len(columns)
        assert list(records) == list(columns)
        assert "mse" in records
        assert "nothing" not in records
        assert records.get("nothing") is None
        with pytest.raises(KeyError):
            records["nothing"]
        first = records["mse"]
        first[:] = 0  # it is the caller's own
        assert records["mse"].all()


@pytest.mark.parametrize("counts", [[0, 0], [3], [0], [1, 0, 2], [0, 4, 0]])
def test_ragged_gives_back_each_samples_rows(counts: list[int]) -> None:
    rows = [np.full((count, 6), index, np.float32) for index, count in enumerate(counts)]
    columns = ragged("boxes", rows, 6)
    assert columns["boxes"].shape == (sum(counts), 6)
    assert columns["boxes"].dtype == np.float32
    assert columns["boxes_count"].tolist() == counts
    found = unragged(columns, "boxes")
    assert len(found) == len(rows)
    for got, expected in zip(found, rows, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert unragged(ragged("boxes", [], 6), "boxes") == []
    for wide in ([], [np.ones((2, 6), np.float64)]):
        assert ragged("boxes", wide, 6)["boxes"].dtype == np.float32


def test_a_ragged_column_has_the_width_and_dtype_that_are_asked_for() -> None:
    for rows in ([], [np.empty((0, 2))], [np.full((3, 2), 1 / 3)]):
        column = ragged("pairs", rows, 2, np.float64)["pairs"]
        assert column.shape == (sum(map(len, rows)), 2)
        assert column.dtype == np.float64
    assert column[0, 0] == 1 / 3  # to the last digit


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@st.composite
def cells(draw: st.DrawFn) -> tuple[Columns, list[Columns]]:
    """A cell's columns, and the same in shards."""
    ids = draw(st.lists(texts, min_size=1, max_size=12))
    counts = draw(st.lists(st.integers(0, 4), min_size=len(ids), max_size=len(ids)))
    ends = draw(st.sets(st.integers(1, len(ids))))
    columns = make_columns(ids, counts, draw(st.integers(0, 99)))
    edges = sorted({0, *ends, len(ids)})
    return columns, [cut(columns, start, end) for start, end in pairwise(edges)]


@laws
@given(cell=cells())
def test_any_cut_into_shards_gives_the_same_columns(cell: tuple[Columns, list[Columns]]) -> None:
    columns, parts = cell
    with written(parts) as records:
        assert_equal(records, columns)
        assert_equal(records, concatenate(parts))
        for name, _, _ in RAGGED:
            for found, expected in zip(
                unragged(records, name), unragged(columns, name), strict=True
            ):
                np.testing.assert_array_equal(found, expected)


@laws
@given(cell=cells(), data=st.data())
def test_take_gives_the_rows_as_python_objects(
    cell: tuple[Columns, list[Columns]], data: st.DataObject
) -> None:
    columns, parts = cell
    rows = data.draw(st.lists(st.integers(0, len(columns["id"]) - 1), max_size=8))
    with written(parts) as records:
        for name in ("id", "label", "mse", "finite", "score_err"):
            found = records.take(name, rows)
            assert found == columns[name][rows].tolist()
            assert all(type(value) in (str, int, float, bool, list) for value in found)


@laws
@given(cell=cells())
def test_chunks_are_the_shards_in_order(cell: tuple[Columns, list[Columns]]) -> None:
    columns, parts = cell
    names = ("boxes", "id", "mse")
    with written(parts) as records:
        chunks = list(records.chunks(*names))
        assert len(chunks) == len(parts)
        for chunk, part in zip(chunks, parts, strict=True):
            for name, column in zip(names, chunk, strict=True):
                np.testing.assert_array_equal(column, part[name], err_msg=name)
    joined = [np.concatenate(column) for column in zip(*chunks, strict=True)]
    for name, column in zip(names, joined, strict=True):
        np.testing.assert_array_equal(column, columns[name], err_msg=name)


def test_shards_are_joined_in_the_order_given() -> None:
    parts = [make_columns([name], [count]) for name, count in (("b", 1), ("a", 2))]
    with written(parts) as records:
        for joined in (concatenate(parts), records):
            assert joined["id"].tolist() == ["b", "a"]
            assert joined["boxes_count"].tolist() == [1, 2]
        assert records.take("id", [1, 0]) == ["a", "b"]


def test_the_same_columns_are_the_same_file(tmp_path: Path) -> None:
    digests = {
        write_records(tmp_path / str(number), make_columns(IDS, [2, 0, 0, 5]))
        for number in range(2)
    }
    assert len(digests) == 1
    other = make_columns(IDS, [2, 0, 0, 5], seed=1)
    assert write_records(tmp_path / "2", other) not in digests


def test_only_the_column_that_is_asked_for_is_in_memory(tmp_path: Path) -> None:
    large = 2_000_000
    columns = {
        # A head that is longer than a block.
        **{f"column {number:04}": np.full(8, number) for number in range(3000)},
        "large": np.arange(large, dtype=np.float64),
        "last": np.array([7]),
    }
    path = tmp_path / "shard.records"
    file = (path, write_records(path, columns))
    tracemalloc.start()
    try:
        records = Records([file])
        assert "large" in records
        assert list(records)[-1] == "last"
        assert records["last"].tolist() == [7]
        assert records["column 2999"].tolist() == [2999] * 8
        assert records.take("column 0001", [7]) == [1]
        assert tracemalloc.get_traced_memory()[1] < 8 * large / 2
        assert records["large"][-1] == large - 1
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 8 * large / 2 < most


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shard.records"
    digest = write_records(path, make_columns(["a"], [1]))
    whole = path.read_bytes()
    head = whole.index(b"\n")
    flipped = []
    for place in (0, head // 2, head, head + 1, len(whole) // 2, len(whole) - 1):
        data = bytearray(whole)
        data[place] ^= 1
        flipped.append(bytes(data))
    for content in (*flipped, whole[:50], whole[:-1], whole + b"\0", b""):
        path.write_bytes(content)
        with pytest.raises(
            RecordsError, match=r"(?s)changed after they were written.*shard\.records"
        ):
            Records([(path, digest)])
    path.write_bytes(whole)
    assert Records([(path, digest)])["id"].tolist() == ["a"]


def test_one_changed_file_of_several_is_named(tmp_path: Path) -> None:
    files = []
    for name in "abc":
        path = tmp_path / f"{name}.records"
        files.append((path, write_records(path, make_columns([name], [1]))))
    files[1][0].write_bytes(files[0][0].read_bytes())  # a shard, but another one
    with pytest.raises(RecordsError, match=r"b\.records"):
        Records(files)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"(?s)are gone.*shard\.records.*No such file"):
        Records([(tmp_path / "shard.records", "0" * 64)])
    with pytest.raises(RecordsError, match="are gone"):
        Records([(tmp_path, "0" * 64)])


def test_the_head_of_a_file_is_json_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "shard.records"
    columns = {"id": np.array(["a", "bcd"]), "err": np.array([[1.5], [2.5]], np.float32)}
    write_records(path, columns)
    head, _, body = path.read_bytes().partition(b"\n")
    assert json.loads(head) == {"id": ["<U3", [2], 0], "err": ["<f4", [2, 1], 24]}
    assert len(body) == 32
    assert np.frombuffer(body[24:], "<f4").tolist() == [1.5, 2.5]


def test_objects_are_not_written(tmp_path: Path) -> None:
    # Their bytes are addresses, which mean nothing to the next process.
    objects: Any = np.array([{"a": 1}], dtype=object)
    with pytest.raises((PillsnapError, TypeError, ValueError)):
        write_records(tmp_path / "shard.records", {"id": objects})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records" / "shard.records"
    columns = make_columns(["a", "b"], [1, 2])
    digest = write_records(path, columns)

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        for target in (path, path.with_name("other.records")):
            with pytest.raises(PillsnapError, match=r"(?s)cannot write.*No space left"):
                write_records(target, make_columns(["c"], [0]))
    # The older file is whole, and nothing stands beside it.
    assert [entry.name for entry in path.parent.iterdir()] == ["shard.records"]
    assert_equal(Records([(path, digest)]), columns)
