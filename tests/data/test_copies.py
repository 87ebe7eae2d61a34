"""Which files are copies, and that a class-balanced sample has each photo once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pillsnap.config.settings import Compare
from pillsnap.data import copies
from pillsnap.data.copies import SeenFiles
from pillsnap.data.datasets import Sample
from pillsnap.data.sampling import select

LONG = bytes(20_000)


def write(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"{index}.png" for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


@pytest.mark.parametrize(
    ("contents", "found"),
    [
        ((b"a", b"bb", b"a", b"a"), [False, False, True, True]),
        ((b"a", b"b", b"c", b"b"), [False, False, False, True]),
        # Alike in size and in the middle.
        ((LONG, LONG[1:] + b"z", LONG, LONG[1:] + b"z"), [False, False, True, True]),
    ],
)
def test_copies_are_files_of_the_same_bytes(
    tmp_path: Path, contents: tuple[bytes, ...], found: list[bool]
) -> None:
    seen = SeenFiles()
    assert [seen.is_copy(path) for path in write(tmp_path, *contents)] == found


def test_what_cannot_be_read_is_no_copy(tmp_path: Path) -> None:
    seen = SeenFiles()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "gone", tmp_path / "pipe", Path("a\0")) * 2:
        assert not seen.is_copy(path)


def test_a_file_of_a_size_of_its_own_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write(tmp_path, *(bytes(size) for size in range(1, 9)))

    def refuse(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(copies, "open_regular", refuse)
    monkeypatch.setattr(copies, "sha256_file", refuse)
    samples = [Sample(path.name, tmp_path, 0) for path in paths]
    assert len(select(samples, Compare(per_class_k=8), "coverage")) == 8


@pytest.mark.parametrize("seed", range(8))
def test_a_class_balanced_sample_has_copies_where_there_are_no_others(
    tmp_path: Path, seed: int
) -> None:
    paths = write(tmp_path, b"a", b"a", b"a", b"b", b"c", b"d", b"d", b"d")
    labels = (0, 0, 0, 0, 0, 1, 1, 1)
    samples = [
        Sample(path.name, tmp_path, label) for path, label in zip(paths, labels, strict=True)
    ]

    def drawn(per_class_k: int, max_total: int = 99) -> list[bytes]:
        compare = Compare(per_class_k=per_class_k, max_total=max_total, seed=seed)
        return sorted(sample.path.read_bytes() for sample in select(samples, compare, "coverage"))

    assert drawn(3) == [b"a", b"b", b"c", b"d", b"d", b"d"]
    assert drawn(3, max_total=4) == [b"a", b"b", b"c", b"d"]
    assert drawn(4) == [b"a", b"a", b"b", b"c", b"d", b"d", b"d"]
    assert drawn(99) == [b"a"] * 3 + [b"b", b"c"] + [b"d"] * 3


def test_a_photo_under_two_classes_stays_under_both(tmp_path: Path) -> None:
    """That they contradict each other is found out when they are compared."""
    first, second = write(tmp_path, b"a", b"a")
    samples = [Sample(first.name, tmp_path, 0), Sample(second.name, tmp_path, 1)]
    assert len(select(samples, Compare(per_class_k=1), "coverage")) == 2
