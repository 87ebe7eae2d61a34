"""Cells and shards: ids, expansion, and the cut of a cell's samples."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillsnap.config.cells import (
    MODES,
    PRECISIONS,
    PROVIDERS,
    STAGES,
    Cell,
    Shard,
    expand_cells,
    split_cell,
    whole_batches,
)
from pillsnap.engines import find_entry

laws = settings(max_examples=200, deadline=None, database=None)

CELL = Cell("detection", "onnx", "auto", "fp32", "smoke")


def expand(
    stages: tuple[str, ...] = ("detection",),
    engines: tuple[str, ...] = ("onnx",),
    providers: tuple[str, ...] = ("auto",),
    precisions: tuple[str, ...] = ("fp32",),
    modes: tuple[str, ...] = ("smoke",),
) -> list[Cell]:
    each = {engine: find_entry(engine).providers_of(providers) for engine in engines}
    return expand_cells(stages=stages, engines=each, precisions=precisions, modes=modes)


def test_ids_carry_what_was_requested() -> None:
    assert CELL.id == "detection-onnx-auto-fp32-smoke"
    assert Shard(CELL).id == "detection-onnx-auto-fp32-smoke"
    assert Shard(CELL, 3, 12).id == "detection-onnx-auto-fp32-smoke-s003of012"
    assert Shard(CELL, 1234, 4321).id == "detection-onnx-auto-fp32-smoke-s1234of4321"


def test_a_cell_of_hard_samples_says_so_at_the_end_of_its_id() -> None:
    hard = replace(CELL, hard=True)
    assert hard.id == "detection-onnx-auto-fp32-smoke-hard"
    assert Shard(hard, 3, 12).id == "detection-onnx-auto-fp32-smoke-hard-s003of012"
    # Another cell than the one it stands beside, and after it.
    assert hard != CELL
    assert sorted([hard, CELL]) == [CELL, hard]
    assert not any(cell.hard for cell in expand(STAGES, modes=MODES))


def test_no_two_cells_share_an_id() -> None:
    cells = expand(STAGES, ("onnx", "tensorrt", "torch"), PROVIDERS, PRECISIONS, MODES)
    both = [*cells, *(replace(cell, hard=True) for cell in cells)]
    assert len({cell.id for cell in both}) == len(both)


def test_every_combination_once_and_detection_first() -> None:
    cells = expand(STAGES, ("onnx", "torch"), PROVIDERS, PRECISIONS, MODES)
    assert len(cells) == len(set(cells)) == 2 * 2 * len(PROVIDERS) * 3 * 3
    assert {(c.stage, c.engine, c.provider, c.precision, c.mode) for c in cells} == set(
        product(STAGES, ("onnx", "torch"), PROVIDERS, PRECISIONS, MODES)
    )
    half = len(cells) // 2
    assert {cell.stage for cell in cells[:half]} == {"detection"}
    assert {cell.stage for cell in cells[half:]} == {"classification"}


def test_order_and_repetitions_of_the_options_play_no_part() -> None:
    dimensions = [list(STAGES), ["onnx", "torch"], list(PROVIDERS), list(PRECISIONS), list(MODES)]
    expected = expand(*map(tuple, dimensions))
    rng = random.Random(0)
    for _ in range(5):
        shuffled = [rng.sample(values * 2, 2 * len(values)) for values in dimensions]
        assert expand(*map(tuple, shuffled)) == expected
    of_stage = [cell for cell in expected if cell.stage == "detection"]
    assert of_stage == sorted(of_stage)


def test_engine_tensorrt_runs_on_its_own_provider_alone() -> None:
    cells = expand(engines=("onnx", "tensorrt"), providers=("auto", "cpu"))
    assert [(cell.engine, cell.provider) for cell in cells] == [
        ("onnx", "auto"),
        ("onnx", "cpu"),
        ("tensorrt", "tensorrt"),
    ]
    # ONNX Runtime with TensorRT's provider is the same thing under another name, and another cell.
    both = expand(engines=("onnx", "tensorrt"), providers=("tensorrt",))
    assert [cell.id for cell in both] == [
        "detection-onnx-tensorrt-fp32-smoke",
        "detection-tensorrt-tensorrt-fp32-smoke",
    ]


@laws
@given(samples=st.integers(0, 500), size=st.integers(1, 120))
def test_shards_cover_every_sample_once(samples: int, size: int) -> None:
    shards = split_cell(CELL, samples, size)
    covered = [index for shard in shards for index in range(*shard.bounds(samples, size))]
    assert covered == list(range(samples))
    assert [shard.index for shard in shards] == list(range(1, len(shards) + 1))
    assert {shard.count for shard in shards} == {len(shards)}
    assert len({shard.id for shard in shards}) == len(shards)
    if samples:
        assert all(0 < b - a <= size for a, b in (s.bounds(samples, size) for s in shards))


def test_a_cell_without_samples_keeps_one_shard_to_say_so() -> None:
    assert split_cell(CELL, 0, 64) == [Shard(CELL)]
    assert Shard(CELL).bounds(0, 64) == (0, 0)


@pytest.mark.parametrize(
    ("shard", "batch", "expected"),
    [(64, 16, 64), (64, 1, 64), (1, 16, 16), (17, 16, 32), (65, 64, 128), (10, 3, 12)],
)
def test_whole_batches(shard: int, batch: int, expected: int) -> None:
    assert whole_batches(shard, batch) == expected


@laws
@given(
    samples=st.integers(1, 400),
    sizes=st.lists(st.integers(1, 150), min_size=2, max_size=2),
    batch=st.integers(1, 40),
)
def test_batches_are_the_same_in_any_sharding(samples: int, sizes: list[int], batch: int) -> None:
    def batches(shard_size: int) -> list[tuple[int, int]]:
        size = whole_batches(shard_size, batch)
        assert shard_size <= size < shard_size + batch
        return [
            (start, min(start + batch, end))
            for shard in split_cell(CELL, samples, size)
            for begin, end in [shard.bounds(samples, size)]
            for start in range(begin, end, batch)
        ]

    assert batches(sizes[0]) == batches(sizes[1])
    assert all(before[1] == after[0] for before, after in pairwise(batches(sizes[0])))
