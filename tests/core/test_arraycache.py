"""Remembered arrays: real files, damaged ones, and several processes at once."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pillsnap.core.arraycache import ArrayCache
from pillsnap.core.hashes import sha256_json

laws = settings(max_examples=60, deadline=None, database=None)

Array = NDArray[Any]
PLENTY = 1 << 30

fork = multiprocessing.get_context("fork")


def key(name: object) -> str:
    return sha256_json(name)


def refuse() -> NoReturn:
    raise AssertionError("this was remembered")


class Counted:
    """A computation that counts how often it was done."""

    def __init__(self, array: Array) -> None:
        self.calls = 0
        self._array = array

    def __call__(self) -> Array:
        self.calls += 1
        return self._array.copy()


def files(folder: Path) -> list[Path]:
    """Whole entries and the beginnings of some, but no locks."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith((".lock", ".size"))
    )


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


def assert_same(found: Array, expected: Array) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.array([np.nan, -0.0, np.inf, 1 / 3]),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
        np.empty((0, 7), np.float32),
        np.array(3.5),
    ],
    ids=lambda array: f"{array.dtype.str}{list(array.shape)}",
)
def test_what_was_computed_once_is_remembered(tmp_path: Path, array: Array) -> None:
    compute = Counted(array)
    for _ in range(3):
        found = ArrayCache(tmp_path / "new" / "cache", PLENTY).get_or_compute(key(1), compute)
        assert_same(found, array)
    assert compute.calls == 1


def test_keys_are_kept_apart(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, PLENTY)
    keys = ["ab" + "0" * 62, "ab" + "1" * 62, "cd" + "0" * 62]
    for number, name in enumerate(keys):
        assert cache.get_or_compute(name, Counted(np.array([number]))) == [number]
    for number, name in enumerate(keys):
        assert cache.get_or_compute(name, refuse) == [number]


def test_what_is_given_out_is_the_callers_own(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, PLENTY)
    for compute in (Counted(np.zeros(4)), refuse, refuse):
        found = cache.get_or_compute(key(1), compute)
        assert not found.any()
        found[:] = 7


# ------------------------------------------------------------------------------------ damage


def entry(folder: Path) -> Path:
    (path,) = files(folder)
    return path


Damage = Callable[[bytes], bytes]


def assert_healed(folder: Path, damage: Damage) -> None:
    """A damaged entry is told, computed anew, and whole from then on."""
    array = np.arange(40, dtype=np.float32)
    cache = ArrayCache(folder, PLENTY)
    cache.get_or_compute(key("damage"), Counted(array))
    path = entry(folder)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    compute = Counted(array)
    assert_same(cache.get_or_compute(key("damage"), compute), array)
    assert compute.calls == 1
    assert path.read_bytes() == whole
    assert_same(cache.get_or_compute(key("damage"), refuse), array)


SIZE = 32 + 128 + 160  # hash, numpy's head, 40 floats


def test_the_size_of_an_entry(tmp_path: Path) -> None:
    ArrayCache(tmp_path, PLENTY).get_or_compute(key(1), Counted(np.arange(40, dtype=np.float32)))
    assert size(tmp_path) == SIZE


@laws
@given(place=st.integers(0, SIZE - 1), bit=st.integers(0, 7))
def test_an_entry_of_which_a_bit_is_flipped_is_computed_anew(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    def flip(whole: bytes) -> bytes:
        data = bytearray(whole)
        data[place] ^= 1 << bit
        return bytes(data)

    assert_healed(tmp_path_factory.mktemp("cache"), flip)


@laws
@given(length=st.integers(0, SIZE - 1))
def test_an_entry_that_is_cut_off_is_computed_anew(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    assert_healed(tmp_path_factory.mktemp("cache"), lambda whole: whole[:length])


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"\0" * len(whole),
        lambda whole: whole + b"\0",
        lambda whole: whole[32:],
        lambda whole: whole * 2,
    ],
    ids=["empty", "zeros", "longer", "without its hash", "twice"],
)
def test_other_damage(tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert_healed(tmp_path, damage)
    assert f"damaged entry of the reference cache is computed anew: {tmp_path}" in caplog.text


# -------------------------------------------------------------------------------------- bound


def block(size: int) -> Array:
    """An array whose entry has this size."""
    return np.zeros(size - 160, np.uint8)


def age(folder: Path) -> None:
    """Make every entry an hour older: the clock of files is too coarse for a test."""
    for path in files(folder):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 3_600_000_000_000))


def remembered(cache: ArrayCache, name: object) -> bool:
    """Whether a key is; it is the one used last from then on."""
    found = []

    def give_up() -> Array:
        found.append(name)
        raise KeyError(name)

    with suppress(KeyError):
        cache.get_or_compute(key(name), give_up)
    return not found


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, 10_000)
    for name in range(10):
        cache.get_or_compute(key(name), Counted(block(1000)))
        age(tmp_path)
    assert size(tmp_path) == 10_000
    for name in (0, 3):  # used again
        cache.get_or_compute(key(name), refuse)
        age(tmp_path)
    cache.get_or_compute(key("new"), Counted(block(1000)))
    assert size(tmp_path) <= 10_000
    kept = [name for name in (*range(10), "new") if remembered(cache, name)]
    gone = [1, 2]
    assert kept == [name for name in (*range(10), "new") if name not in gone]


def test_only_entries_go(tmp_path: Path) -> None:
    """A lock that another process waits for is no entry, nor is a file that one is writing."""
    cache = ArrayCache(tmp_path, 10_000)
    cache.get_or_compute(key(0), Counted(block(1000)))
    (folder,) = {path.parent for path in files(tmp_path)}
    others = [folder / ".lock", folder / ".pillsnap-0.tmp"]
    others[1].write_bytes(bytes(5000))
    for path in others:
        os.utime(path, (0, 0))  # used longest ago
    for name in range(1, 20):
        cache.get_or_compute(key(name), Counted(block(1000)))
    assert not remembered(cache, 0)
    assert [path.exists() for path in others] == [True, True]


@laws
@given(
    sizes=st.lists(st.integers(200, 3000), min_size=1, max_size=25),
    again=st.lists(st.integers(0, 24), max_size=10),
)
def test_the_folder_is_never_larger_than_its_bound(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], again: list[int]
) -> None:
    folder, limit = tmp_path_factory.mktemp("cache"), 8000
    cache = ArrayCache(folder, limit)
    for name, length in enumerate(sizes):
        found = cache.get_or_compute(key(name), Counted(block(length)))
        assert found.nbytes == length - 160
        assert size(folder) <= limit
        # What was just computed is never what has to go, nor is all the rest.
        assert remembered(cache, name)
    assert size(folder) >= min(limit // 2, sum(sizes))
    for name in again:
        length = sizes[name % len(sizes)]
        cache.get_or_compute(key(name % len(sizes)), Counted(block(length)))
        assert size(folder) <= limit


def test_an_entry_beyond_the_bound_is_computed_each_time(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, 1000)
    compute = Counted(block(5000))
    for _ in range(2):
        assert cache.get_or_compute(key(1), compute).nbytes == 4840
        assert size(tmp_path) <= 1000
    assert compute.calls == 2


def test_what_lies_in_the_folder_already_counts(tmp_path: Path) -> None:
    for name in range(5):
        ArrayCache(tmp_path, PLENTY).get_or_compute(key(name), Counted(block(1000)))
        age(tmp_path)
    cache = ArrayCache(tmp_path, 3000)
    cache.get_or_compute(key("new"), Counted(block(1000)))
    assert size(tmp_path) <= 3000
    assert remembered(cache, "new")
    assert remembered(cache, 4)
    assert not remembered(cache, 0)


def test_the_bound_is_that_of_the_folder_however_many_write_to_it(tmp_path: Path) -> None:
    """Eight workers share a cache; each entry that one of them adds counts for all."""
    workers = [ArrayCache(tmp_path, 10_000) for _ in range(8)]
    for number in range(200):
        worker = workers[number % len(workers)]
        worker.get_or_compute(key(number), Counted(block(1000)))
        age(tmp_path)
        # By the newest entry of each, for a moment.
        assert size(tmp_path) <= 10_000 + 8 * 1000


# ---------------------------------------------------------------------------------- processes


def run_all(targets: list[Callable[[], object]]) -> list[int | None]:
    """Run functions in processes of their own, all at once; returns their exit codes."""
    workers = [fork.Process(target=target) for target in targets]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return [worker.exitcode for worker in workers]


def test_processes_that_need_one_key_compute_it_once(tmp_path: Path) -> None:
    counter, barrier = tmp_path / "counter", fork.Barrier(4)
    array = np.arange(1000.0)

    def compute() -> Array:
        with counter.open("a") as file:
            file.write("x")
        time.sleep(0.2)
        return array

    def work() -> None:
        barrier.wait(30)
        found = ArrayCache(tmp_path / "cache", PLENTY).get_or_compute(key(1), compute)
        assert_same(found, array)

    assert run_all([work] * 4) == [0] * 4
    assert counter.read_text() == "x"


def test_processes_may_fill_and_clear_one_small_cache_together(tmp_path: Path) -> None:
    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        cache = ArrayCache(tmp_path, 20_000)
        for name in rng.integers(0, 60, size=300):
            found = cache.get_or_compute(key(int(name)), lambda n=name: np.full(100, n))
            assert (found == name).all()

    assert run_all([lambda seed=seed: work(seed) for seed in range(4)]) == [0] * 4


# --------------------------------------------------------------------------------- misfortunes


def test_a_folder_that_cannot_be_written_costs_the_memory_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "cache"
    in_the_way.write_text("a file")
    array = np.arange(3)
    compute = Counted(array)
    cache = ArrayCache(in_the_way, PLENTY)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_same(cache.get_or_compute(key(1), compute), array)
    assert compute.calls == 2
    assert "the reference cache cannot be used" in caplog.text
    assert str(in_the_way) in caplog.text
    assert in_the_way.read_text() == "a file"


def test_a_place_that_is_taken_costs_the_memory_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = key(1)
    for number, in_the_way in enumerate((name[:2], f"{name[:2]}/.lock", f"{name[:2]}/{name}.npy")):
        folder = tmp_path / str(number)
        # A file where a folder is needed, and folders where files are.
        path = folder / in_the_way
        if number == 0:
            folder.mkdir()
            path.touch()
        else:
            path.mkdir(parents=True)
        compute = Counted(np.arange(3))
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert_same(ArrayCache(folder, PLENTY).get_or_compute(name, compute), np.arange(3))
        assert compute.calls == 2
        assert "the reference cache cannot be" in caplog.text
        assert all(left.stat().st_size == 0 for left in files(folder))
        caplog.clear()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_of_the_computation_passes_through(
    tmp_path: Path, error: type[BaseException]
) -> None:
    cache = ArrayCache(tmp_path, PLENTY)

    def fail() -> Array:
        raise error("mine")

    for _ in range(2):  # the lock is free again
        with pytest.raises(error, match="mine"):
            cache.get_or_compute(key(1), fail)
        assert files(tmp_path) == []
    compute = Counted(np.arange(3))
    assert_same(cache.get_or_compute(key(1), compute), np.arange(3))
    assert compute.calls == 1
    assert_same(cache.get_or_compute(key(1), fail), np.arange(3))


LARGE = np.arange(1_000_000.0)


def assert_nothing_is_believed(folder: Path) -> None:
    compute = Counted(LARGE)
    assert_same(ArrayCache(folder, PLENTY).get_or_compute(key(1), compute), LARGE)
    assert compute.calls == 1
    assert_same(ArrayCache(folder, PLENTY).get_or_compute(key(1), refuse), LARGE)


def limit_files(size: int, *, fatal: bool) -> None:
    """Let this process write no file beyond a size: as on a full disk, or killed in mid-write."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if fatal else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("written", [0, 20, 32, 100, 1_000_000])
def test_a_writer_that_is_killed_leaves_nothing_that_is_believed(
    tmp_path: Path, written: int
) -> None:
    def work() -> None:
        limit_files(written, fatal=True)
        ArrayCache(tmp_path, PLENTY).get_or_compute(key(1), lambda: LARGE)

    assert run_all([work]) == [-signal.SIGXFSZ]
    assert_nothing_is_believed(tmp_path)


def test_a_writer_that_is_killed_before_the_end_leaves_nothing_that_is_believed(
    tmp_path: Path,
) -> None:
    def kill(*_: Any) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def while_computing() -> None:
        ArrayCache(tmp_path, PLENTY).get_or_compute(key(1), kill)

    def while_renaming() -> None:
        Path.replace = Path.rename = os.replace = os.rename = kill  # type: ignore[assignment]
        ArrayCache(tmp_path, PLENTY).get_or_compute(key(1), lambda: LARGE)

    for work in (while_computing, while_renaming):
        assert run_all([work]) == [-signal.SIGKILL]
        # The lock went with the process.
    assert_nothing_is_believed(tmp_path)


def test_a_full_disk_costs_the_memory_not_the_run(tmp_path: Path) -> None:
    def work() -> None:
        limit_files(1_000_000, fatal=False)
        compute = Counted(LARGE)
        for _ in range(2):
            found = ArrayCache(tmp_path, PLENTY).get_or_compute(key(1), compute)
            assert_same(found, LARGE)
        assert compute.calls == 2
        assert files(tmp_path) == []

    assert run_all([work]) == [0]
    assert_nothing_is_believed(tmp_path)
