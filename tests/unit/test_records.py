"""Records on disk: what is written comes back, whole, and in any cut."""

from __future__ import annotations

import hashlib
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillsnap.errors import PillsnapError
from pillsnap.records import (
    Columns,
    RecordsError,
    concatenate,
    ragged,
    read_records,
    unragged,
    write_records,
)

laws = settings(max_examples=60, deadline=None, database=None)


def make_columns(ids: list[str], counts: list[int], seed: int = 0) -> Columns:
    """Columns of every kind that the recorders write."""
    rng = np.random.default_rng(seed)
    boxes = [rng.normal(size=(count, 6)).astype(np.float32) for count in counts]
    return {
        "id": np.array(ids),
        "label": np.arange(len(ids), dtype=np.int64) - 1,
        "mse": rng.normal(size=len(ids)),
        "finite": rng.random(len(ids)) < 0.5,
        "score_err": rng.normal(size=(len(ids), 3)).astype(np.float32),
        **ragged("boxes", boxes, 6),
    }


def cut(columns: Columns, start: int, end: int) -> Columns:
    """The columns of samples start..end, as a shard of its own would have them."""
    boxes = list(unragged(columns, "boxes"))[start:end]
    plain = {k: v[start:end] for k, v in columns.items() if not k.startswith("boxes")}
    # A shard's ids are only as wide as its own longest.
    return {**plain, "id": np.array(plain["id"].tolist()), **ragged("boxes", boxes, 6)}


def assert_equal(found: Columns, expected: Columns) -> None:
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)
        assert found[name].dtype == column.dtype, name


IDS = ["K-001/0.png", "정제/사진 1.png", "pilule-é/𝛼.png", "x"]  # noqa: RUF001


def test_round_trip(tmp_path: Path) -> None:
    columns = make_columns(IDS, [2, 0, 0, 5])
    columns["mse"][1] = np.nan
    path = tmp_path / "records" / "shard.npz"
    digest = write_records(path, columns)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = read_records(path, digest)
    assert_equal(found, columns)
    assert found["id"].tolist() == IDS
    assert [len(rows) for rows in unragged(found, "boxes")] == [2, 0, 0, 5]


@pytest.mark.parametrize("counts", [[0, 0], [3], [0], [1, 0, 2], [0, 4, 0]])
def test_ragged_gives_back_each_samples_rows(counts: list[int]) -> None:
    rows = [np.full((count, 6), index, np.float32) for index, count in enumerate(counts)]
    columns = ragged("boxes", rows, 6)
    assert columns["boxes"].shape == (sum(counts), 6)
    assert columns["boxes"].dtype == np.float32
    found = list(unragged(columns, "boxes"))
    assert len(found) == len(rows)
    for got, expected in zip(found, rows, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert list(unragged(ragged("boxes", [], 6), "boxes")) == []
    for wide in ([], [np.ones((2, 6), np.float64)]):
        assert ragged("boxes", wide, 6)["boxes"].dtype == np.float32


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@laws
@given(data=st.data())
def test_any_cut_into_shards_concatenates_to_the_same_columns(data: st.DataObject) -> None:
    ids = data.draw(st.lists(texts, min_size=1, max_size=12))
    counts = data.draw(st.lists(st.integers(0, 4), min_size=len(ids), max_size=len(ids)))
    ends = data.draw(st.sets(st.integers(1, len(ids))))
    edges = sorted({0, *ends, len(ids)})
    columns = make_columns(ids, counts)
    with tempfile.TemporaryDirectory() as folder:
        shards = []
        for start, end in pairwise(edges):
            path = Path(folder) / f"{start}.npz"
            digest = write_records(path, cut(columns, start, end))
            shards.append(read_records(path, digest))
    assert_equal(concatenate(shards), columns)


def test_shards_are_joined_in_the_order_given() -> None:
    parts = [make_columns([name], [count]) for name, count in (("b", 1), ("a", 2))]
    joined = concatenate(parts)
    assert joined["id"].tolist() == ["b", "a"]
    assert joined["boxes_count"].tolist() == [1, 2]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shard.npz"
    digest = write_records(path, make_columns(["a"], [1]))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    for content in (bytes(data), bytes(data[:50]), b""):
        path.write_bytes(content)
        with pytest.raises(RecordsError, match=r"(?s)changed after they were written.*shard\.npz"):
            read_records(path, digest)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"(?s)are gone.*shard\.npz.*No such file"):
        read_records(tmp_path / "shard.npz", "0" * 64)
    with pytest.raises(RecordsError, match="are gone"):
        read_records(tmp_path, "0" * 64)


def test_nothing_that_needs_pickle_is_written(tmp_path: Path) -> None:
    objects: Any = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        write_records(tmp_path / "shard.npz", {"id": objects})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records" / "shard.npz"
    columns = make_columns(["a", "b"], [1, 2])
    digest = write_records(path, columns)

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        for target in (path, path.with_name("other.npz")):
            with pytest.raises(PillsnapError, match=r"(?s)cannot write.*No space left"):
                write_records(target, make_columns(["c"], [0]))
    # The older file is whole, and nothing stands beside it.
    assert [entry.name for entry in path.parent.iterdir()] == ["shard.npz"]
    assert_equal(read_records(path, digest), columns)
