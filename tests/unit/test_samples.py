"""The laws of sampling."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillsnap.config import Compare
from pillsnap.datasets import Sample
from pillsnap.labels import Box
from pillsnap.samples import select

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


@laws
@given(sizes=sizes_st, compare=compare_st, mode=st.sampled_from(["smoke", "coverage", "full"]))
def test_a_selection_is_a_sorted_subset_whatever_the_order(
    sizes: list[int], compare: Compare, mode: str
) -> None:
    samples = singles(sizes)
    chosen = select(samples, compare, mode)
    ids = [sample.id for sample in chosen]
    assert ids == sorted(set(ids))
    assert set(chosen) <= set(samples)
    shuffled = random.Random(1).sample(samples, len(samples))
    assert select(shuffled, compare, mode) == chosen
    assert select(samples, compare, mode) == chosen


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
