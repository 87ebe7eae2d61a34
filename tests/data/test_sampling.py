"""The laws of sampling."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillsnap.config.settings import Compare
from pillsnap.data.datasets import Sample
from pillsnap.data.labels import Box
from pillsnap.data.sampling import hard_pool, select, select_hard

laws = settings(max_examples=80, deadline=None, database=None)


def singles(sizes: list[int]) -> list[Sample]:
    return [
        Sample(f"{label:03}/{number:04}.png", Path("x"), label)
        for label, size in enumerate(sizes)
        for number in range(size)
    ]


def scene(number: int, *class_ids: int) -> Sample:
    boxes = tuple(Box(class_id, 0.5, 0.5, 0.1, 0.1) for class_id in class_ids)
    return Sample(f"{number:04}.png", Path("x"), None, boxes)


sizes_st = st.lists(st.integers(1, 12), min_size=1, max_size=12)
compare_st = st.builds(
    Compare,
    sample_count=st.integers(1, 60),
    per_class_k=st.integers(1, 6),
    max_total=st.integers(1, 60),
    seed=st.integers(0, 2**63 - 1),
)


# Photos of single pills, or scenes of them; some scenes without labels.
samples_st = sizes_st.map(singles) | st.lists(
    st.none() | st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=80
).map(
    lambda kinds: [
        replace(scene(number), boxes=None) if kind is None else scene(number, *kind)
        for number, kind in enumerate(kinds)
    ]
)


@pytest.mark.parametrize("by", [("class",), ()])
@pytest.mark.parametrize(("boxed", "at_least"), [(4, 4), (8, 8), (40, 8), (0, 0)])
def test_a_smoke_sample_of_mostly_background_has_labelled_boxes(
    boxed: int, at_least: int, by: tuple[Any, ...]
) -> None:
    scenes = [scene(number, *([0] * (number < boxed))) for number in range(400)]
    for seed in range(10):
        compare = Compare(sample_count=32, stratify_by=by, seed=seed)
        chosen = select(scenes, compare, "smoke")
        assert len(set(chosen)) == 32
        assert sum(bool(sample.boxes) for sample in chosen) >= at_least


def test_where_boxes_are_no_rarity_the_smoke_sample_is_in_proportion() -> None:
    scenes = [scene(number, *([0] * (number % 2))) for number in range(400)]
    chosen = select(scenes, Compare(sample_count=32), "smoke")
    assert sum(bool(sample.boxes) for sample in chosen) == 16


@laws
@given(
    samples=samples_st,
    compare=compare_st,
    mode=st.sampled_from(["smoke", "coverage", "full"]),
    shuffle=st.randoms(use_true_random=False),
)
def test_a_selection_is_a_sorted_subset_whatever_the_order(
    samples: list[Sample], compare: Compare, mode: str, shuffle: random.Random
) -> None:
    chosen = select(samples, compare, mode)
    ids = [sample.id for sample in chosen]
    assert ids == sorted(set(ids))
    assert set(chosen) <= set(samples)
    shuffled = shuffle.sample(samples, len(samples))
    assert select(shuffled, compare, mode) == chosen
    assert select(samples, compare, mode) == chosen
    # What is about hard samples, and how it is cut, plays no part.
    other = replace(compare, hard_per_bin=3, hard_pool=7, shard_size=5)
    assert select(samples, other, mode) == chosen


@laws
@given(sizes=sizes_st, compare=compare_st)
def test_full_is_everything(sizes: list[int], compare: Compare) -> None:
    assert select(singles(sizes), compare, "full") == singles(sizes)


@laws
@given(sizes=sizes_st, compare=compare_st)
def test_smoke_has_its_size_and_the_proportions_of_the_classes(
    sizes: list[int], compare: Compare
) -> None:
    chosen = select(singles(sizes), compare, "smoke")
    count = min(compare.sample_count, sum(sizes))
    assert len(chosen) == count
    found = Counter(sample.label for sample in chosen)
    for label, size in enumerate(sizes):
        assert abs(found[label] - count * size / sum(sizes)) < 1


@laws
@given(sizes=sizes_st, compare=compare_st)
def test_coverage_is_balanced(sizes: list[int], compare: Compare) -> None:
    chosen = select(singles(sizes), compare, "coverage")
    asked = [min(size, compare.per_class_k) for size in sizes]
    assert len(chosen) == min(compare.max_total, sum(asked))
    found = Counter(sample.label for sample in chosen)
    # A class gets its next sample only when every class that has one left got as many.
    for label, wanted in enumerate(asked):
        if found[label] < wanted:
            assert max(found.values()) <= found[label] + 1
        assert found[label] <= wanted


@laws
@given(samples=samples_st, compare=compare_st, k=st.integers(1, 6))
def test_coverage_of_scenes_is_balanced_over_their_kinds(
    samples: list[Sample], compare: Compare, k: int
) -> None:
    def kind(sample: Sample) -> object:
        if sample.boxes is None:
            return sample.label
        return frozenset(box.class_id for box in sample.boxes), len(sample.boxes)

    there = Counter(map(kind, samples))
    found = Counter(map(kind, select(samples, replace(compare, per_class_k=k), "coverage")))
    wanted = {key: min(count, k) for key, count in there.items()}
    assert sum(found.values()) == min(compare.max_total, sum(wanted.values()))
    for key, count in wanted.items():
        assert found[key] == count or max(found.values()) - 1 <= found[key] < count


@laws
@given(sizes=sizes_st, compare=compare_st, more=st.integers(1, 40))
def test_a_larger_max_total_only_adds_samples(
    sizes: list[int], compare: Compare, more: int
) -> None:
    few = select(singles(sizes), compare, "coverage")
    larger = replace(compare, max_total=compare.max_total + more)
    assert set(few) <= set(select(singles(sizes), larger, "coverage"))


@pytest.mark.parametrize("mode", ["smoke", "coverage"])
def test_another_seed_is_another_selection(mode: str) -> None:
    samples = singles([20] * 24)
    drawn = {
        tuple(sample.id for sample in select(samples, Compare(seed=seed), mode))
        for seed in range(10)
    }
    assert len(drawn) == 10


def test_this_seed_is_this_selection() -> None:
    """Pins the stream: an upgrade that changes it changes every report."""
    chosen = select(singles([9, 9, 9]), Compare(sample_count=5, seed=7), "smoke")
    ids = "000/0007 001/0003 001/0008 002/0000 002/0008"
    assert " ".join(sample.id.removesuffix(".png") for sample in chosen) == ids


def test_every_sample_is_equally_likely_in_smoke() -> None:
    """Rare classes too: their share is below one, and yet they come at their rate."""
    sizes = [1, 2, 3, 14, 80]
    samples = singles(sizes)
    draws = 2000
    found = Counter(
        sample.id
        for seed in range(draws)
        for sample in select(samples, Compare(sample_count=10, seed=seed), "smoke")
    )
    rates = np.array([found[sample.id] / draws for sample in samples])
    # 0.1 each; standard error 0.0067, five of them
    assert np.abs(rates - 0.1).max() < 0.034


def test_a_share_without_remainder_is_never_rounded_up() -> None:
    samples = singles([2, 1, 1])
    for seed in range(100):
        labels = [s.label for s in select(samples, Compare(sample_count=2, seed=seed), "smoke")]
        assert labels in ([0, 1], [0, 2])


def test_the_classes_that_max_total_leaves_out_differ_by_seed() -> None:
    samples = singles([3] * 20)
    left = {
        frozenset(s.label for s in select(samples, Compare(max_total=8, seed=seed), "coverage"))
        for seed in range(20)
    }
    assert all(len(labels) == 8 for labels in left)
    assert len(left) > 15


def test_scenes_are_stratified_by_classes_and_number_of_boxes() -> None:
    kinds = [(), (0,), (1,), (0, 1), (0, 0), (0, 1, 1)]
    samples = [scene(number, *kinds[number % 6]) for number in range(120)]
    chosen = select(samples, Compare(sample_count=12), "smoke")
    found = Counter(tuple(box.class_id for box in sample.boxes or ()) for sample in chosen)
    assert found == {kind: 2 for kind in kinds}
    assert len(select(samples, Compare(per_class_k=3), "coverage")) == 18


def test_the_order_of_boxes_is_no_stratum() -> None:
    samples = [scene(number, *((0, 1) if number % 2 else (1, 0))) for number in range(40)]
    assert len(select(samples, Compare(per_class_k=5), "coverage")) == 5


def test_scenes_without_labels_are_one_stratum() -> None:
    samples = [replace(scene(number), boxes=None) for number in range(100)]
    assert len(select(samples, Compare(), "smoke")) == 32
    assert len(select(samples, Compare(per_class_k=20), "coverage")) == 20


def test_without_strata_smoke_is_plain_chance() -> None:
    samples = singles([10] * 10)
    compare = Compare(sample_count=10, stratify_by=())
    spreads = [
        len({sample.label for sample in select(samples, replace(compare, seed=seed), "smoke")})
        for seed in range(20)
    ]
    assert min(spreads) < 10
    stratified = select(samples, Compare(sample_count=10), "smoke")
    assert len({sample.label for sample in stratified}) == 10


def test_no_samples_and_no_such_mode() -> None:
    assert select([], Compare(), "smoke") == []
    with pytest.raises(ValueError, match="smokey"):
        select(singles([1]), Compare(), "smokey")


def test_a_hundred_thousand_samples_take_no_quadratic_time() -> None:
    samples = singles([20] * 5000)
    assert len(select(samples, Compare(per_class_k=2, max_total=9_999), "coverage")) == 9_999
    assert len(select(samples, Compare(sample_count=20_000), "smoke")) == 20_000


# ------------------------------------------------------------------------------- hard samples

edges_st = st.lists(
    st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.6, 0.85, 0.9, 1.0]), min_size=2, max_size=6, unique=True
).map(lambda edges: tuple(sorted(edges)))
# Probabilities on the edges and between them, and of images that could not be read.
top_st = (
    st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.6, 0.85, 0.9, 1.0])
    | st.floats(0, 1)
    | st.just(math.nan)
)
hard_st = st.builds(
    Compare,
    hard_per_bin=st.integers(0, 8),
    hard_pool=st.integers(1, 90),
    hardness_bins=edges_st,
    seed=st.integers(0, 2**63 - 1),
)


def bin_of(probability: float, edges: Sequence[float]) -> int | None:
    """The bin that holds its lower edge, the last one its upper edge too."""
    for index, (low, high) in enumerate(pairwise(edges)):
        if low <= probability < high or probability == high == edges[-1]:
            return index
    return None


@laws
@given(data=st.data(), compare=hard_st)
def test_hard_samples_fill_every_bin_as_far_as_there_are(
    data: st.DataObject, compare: Compare
) -> None:
    top = data.draw(st.lists(top_st, min_size=0, max_size=60))
    pool = singles([len(top)])
    chosen = select_hard(pool, np.array(top, np.float64), compare)
    ids = [sample.id for sample in chosen]
    assert ids == sorted(set(ids))
    assert set(chosen) <= set(pool)
    bins = {
        sample.id: bin_of(p, compare.hardness_bins) for sample, p in zip(pool, top, strict=True)
    }
    there = Counter(index for index in bins.values() if index is not None)
    found = Counter(bins[name] for name in ids)
    assert found == Counter(
        {index: min(count, compare.hard_per_bin) for index, count in there.items()}
    )
    assert select_hard(pool, np.array(top, np.float64), compare) == chosen


@laws
@given(
    data=st.data(),
    samples=samples_st,
    compare=hard_st,
    shuffle=st.randoms(use_true_random=False),
)
def test_hard_samples_are_the_same_whatever_the_order(
    data: st.DataObject, samples: list[Sample], compare: Compare, shuffle: random.Random
) -> None:
    pool = hard_pool(samples, compare)
    ids = [sample.id for sample in pool]
    assert ids == sorted(set(ids))
    assert set(pool) <= set(samples)
    assert len(pool) == min(compare.hard_pool, len(samples))
    shuffled = shuffle.sample(samples, len(samples))
    assert hard_pool(shuffled, compare) == pool
    top = np.array(data.draw(st.lists(top_st, min_size=len(pool), max_size=len(pool))))
    chosen = select_hard(pool, top, compare)
    assert select_hard(hard_pool(shuffled, compare), top, compare) == chosen


def test_edges_of_bins_belong_to_the_upper_one_and_the_last_to_the_last() -> None:
    edges = (0.2, 0.5, 0.9)
    top = np.array([0.2, 0.5, 0.9, math.nextafter(0.2, 0), math.nextafter(0.9, 1), math.nan, 0.3])
    pool = singles([len(top)])
    compare = Compare(hardness_bins=edges, hard_per_bin=99)
    assert select_hard(pool, top, compare) == [pool[index] for index in (0, 1, 2, 6)]
    below, above = (
        select_hard(pool, top, replace(compare, hardness_bins=part))
        for part in (edges[:2], edges[1:])
    )
    assert below == [pool[index] for index in (0, 1, 6)]
    assert above == [pool[index] for index in (1, 2)]


def test_no_hard_samples_where_none_are_asked_for_or_there_are_none() -> None:
    pool = singles([4])
    assert select_hard(pool, np.full(4, 0.7), Compare(hard_per_bin=0)) == []
    assert select_hard(pool, np.full(4, np.nan), Compare(hard_per_bin=5)) == []
    assert select_hard([], np.array([]), Compare(hard_per_bin=5)) == []
    assert hard_pool([], Compare()) == []


def test_another_seed_is_another_pool_and_other_hard_samples() -> None:
    samples = singles([100] * 4)
    top = np.random.default_rng(0).random(400)
    pools, hard = set(), set()
    for seed in range(10):
        compare = Compare(seed=seed, hard_pool=50, hard_per_bin=4)
        pools.add(tuple(sample.id for sample in hard_pool(samples, compare)))
        hard.add(tuple(sample.id for sample in select_hard(samples, top, compare)))
    assert (len(pools), len(hard)) == (10, 10)


def test_every_sample_is_equally_likely_in_the_pool_and_in_its_bin() -> None:
    samples = singles([3, 7, 10])
    # Bins of 5, 15 and 0 samples.
    top = np.array([0.2] * 5 + [0.7] * 15)
    draws = 2000
    pooled: Counter[str] = Counter()
    hard: Counter[str] = Counter()
    for seed in range(draws):
        compare = Compare(
            seed=seed, hard_pool=8, hard_per_bin=3, hardness_bins=(0.0, 0.5, 0.8, 1.0)
        )
        pooled.update(sample.id for sample in hard_pool(samples, compare))
        hard.update(sample.id for sample in select_hard(samples, top, compare))
    rates = np.array([[each[sample.id] / draws for sample in samples] for each in (pooled, hard)])
    # Standard errors of at most 0.011, five of them.
    assert np.abs(rates[0] - 0.4).max() < 0.055
    assert np.abs(rates[1] - np.array([0.6] * 5 + [0.2] * 15)).max() < 0.055


def test_these_are_the_hard_samples_of_this_seed() -> None:
    """Pins the stream, as for smoke."""
    samples = singles([30])
    compare = Compare(seed=7, hard_pool=12, hard_per_bin=2, hardness_bins=(0.0, 0.5, 1.0))
    pool = hard_pool(samples, compare)
    chosen = select_hard(pool, np.linspace(0, 1, 12), compare)
    names = [
        " ".join(sample.id.removeprefix("000/00").removesuffix(".png") for sample in part)
        for part in (pool, chosen)
    ]
    assert names == ["03 04 12 13 14 17 18 19 22 24 27 28", "13 14 22 24"]


def test_a_large_pool_takes_no_quadratic_time() -> None:
    samples = singles([20] * 5000)
    compare = Compare(hard_pool=100_000, hard_per_bin=20_000)
    pool = hard_pool(samples, compare)
    assert len(pool) == 100_000
    assert len(select_hard(pool, np.linspace(0, 1, 100_000), compare)) == 75_000
