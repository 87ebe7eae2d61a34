"""The paired bootstrap of mAP: against one resample after the other, and on cases known exactly."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pillsnap.compare.figures import bootstrap
from pillsnap.compare.figures.bootstrap import bootstrap_map_deltas, upper_bounds
from pillsnap.compare.figures.coco import evaluate
from pillsnap.compare.figures.ranking import Evaluation
from tests.compare.resampling import resample

Boxes = NDArray[np.float32]


def evaluated(truth: Sequence[Boxes], found: Sequence[Boxes]) -> Evaluation:
    evaluation = evaluate(truth, found, max_detections=100)
    assert evaluation is not None
    return evaluation


def scene(
    seed: int,
    images: int = 30,
    classes: int = 3,
    most: int = 6,
    noise: float = 2.0,
    levels: int = 0,
) -> tuple[Evaluation, Evaluation]:
    """A reference that finds most boxes, and a candidate whose boxes and scores are a bit off.

    levels: round scores to so many, so that they tie; 0 for no rounding.
    """
    random = np.random.default_rng(seed)
    truth, sides = [], ([], [])  # type: ignore[var-annotated]
    for _ in range(images):
        count = int(random.integers(0, most + 1))
        corner = np.stack([np.arange(count) * 100.0, np.zeros(count)], axis=1)
        label = random.integers(0, classes, (count, 1))
        truth.append(np.hstack([corner, corner + 60, label]).astype(np.float32))
        corner = corner + random.normal(0, 4, corner.shape)
        score = random.random((count, 1))
        seen = random.random(count) < 0.9
        for side, off in zip(sides, (0.0, noise), strict=True):
            moved = corner + random.normal(0, off, corner.shape)
            rated = np.clip(score + random.normal(0, off / 20, score.shape), 0.01, 1)
            rated = np.ceil(rated * levels) / levels if levels else rated
            kept = seen & (random.random(count) < 1 - off / 20)
            rows = np.hstack([moved, moved + 60, rated, label])[kept]
            side.append(rows.astype(np.float32))
    return evaluated(truth, sides[0]), evaluated(truth, sides[1])


def one_by_one(
    reference: Evaluation, candidate: Evaluation, *, seed: int, resamples: int
) -> NDArray[np.float64]:
    """The definition: draw images, count them, measure both sides on them, subtract."""
    images = reference.images
    drawn = np.random.Generator(np.random.PCG64(seed)).integers(0, images, (resamples, images))
    deltas = []
    for images_drawn in drawn:
        weights = np.bincount(images_drawn, minlength=images)
        before, after = resample(reference, weights), resample(candidate, weights)
        deltas.append((after.map_0_5 - before.map_0_5, after.map_0_5_0_95 - before.map_0_5_0_95))
    return np.array(deltas)


@pytest.mark.parametrize("levels", [0, 4])
@pytest.mark.parametrize("seed", range(4))
def test_equals_one_resample_after_the_other(seed: int, levels: int) -> None:
    sides = scene(seed, classes=1 + 2 * seed, levels=levels)
    deltas = bootstrap_map_deltas(*sides, seed=seed, resamples=60)
    assert deltas.shape == (60, 2) and deltas.dtype == np.float64
    expected = one_by_one(*sides, seed=seed, resamples=60)
    np.testing.assert_allclose(deltas, expected, rtol=0, atol=1e-12)
    assert (deltas.std(axis=0) > 1e-3).all()


def test_sides_that_agree_differ_by_exactly_nothing() -> None:
    reference, candidate = scene(0)
    again, _ = scene(0)
    for side in (reference, again):
        deltas = bootstrap_map_deltas(reference, side, seed=3)
        assert deltas.shape == (1000, 2)
        assert (deltas == 0).all()
        assert upper_bounds(deltas) == (0.0, 0.0)
    assert (bootstrap_map_deltas(reference, candidate, seed=3) != 0).any()


def test_swapping_the_sides_changes_the_sign() -> None:
    reference, candidate = scene(1)
    there = bootstrap_map_deltas(reference, candidate, seed=0)
    np.testing.assert_array_equal(bootstrap_map_deltas(candidate, reference, seed=0), -there)
    # The candidate is the worse one.
    assert there.mean() < 0


def test_copies_of_an_image_are_drawn_as_one() -> None:
    # Of 40 images two are missed, or of 4 every one has ten copies.
    sides, apart = misses(40, 10), np.arange(40)
    known = bootstrap_map_deltas(*sides, seed=0)
    np.testing.assert_array_equal(bootstrap_map_deltas(*sides, seed=0, images=apart), known)
    # The misses are copies of one image of four: all are lost in as many draws as lack the others.
    deltas = bootstrap_map_deltas(*sides, seed=0, images=apart // 10)
    assert upper_bounds(known)[0] < 0.45
    assert (deltas[:, 0] < -0.99).mean() == pytest.approx(0.25**4, abs=0.01)
    assert (deltas[:, 0] == 0).mean() == pytest.approx(0.75**4, abs=0.05)


def test_only_thresholds_that_tell_the_sides_apart_count() -> None:
    # IoU 0.72 passes five of ten thresholds.
    truth = [np.array([[0, 0, 50, 100, 0]], np.float32)] * 4
    exact = [np.array([[0, 0, 50, 100, 0.9, 0]], np.float32)] * 4
    lower = [np.array([[0, 0, 50, 72, 0.9, 0]], np.float32)] * 4
    deltas = bootstrap_map_deltas(evaluated(truth, exact), evaluated(truth, lower), seed=0)
    np.testing.assert_array_equal(deltas[:, 0], 0.0)
    np.testing.assert_allclose(deltas[:, 1], -0.5, atol=1e-12)


def test_scores_count_by_rank_and_by_what_ties_with_them() -> None:
    # Two right boxes, then two wrong ones, in one of three images.
    truth = [np.array([[0, 0, 50, 50, 0], [200, 0, 250, 50, 0]], np.float32)]
    truth += [np.empty((0, 5), np.float32)] * 2
    rows = np.array([[x, 0, x + 50, 50] for x in (0, 200, 400, 600)])

    def side(*scores: float) -> Evaluation:
        found = np.hstack([rows, np.array(scores)[:, None], np.zeros((4, 1))]).astype(np.float32)
        return evaluated(truth, [found, found[:0], found[:0]])

    reference = side(0.8, 0.8, 0.6, 0.6)
    # Other scores of the same order and the same ties.
    deltas = bootstrap_map_deltas(reference, side(0.9, 0.9, 0.3, 0.3), seed=0)
    assert (deltas[~np.isnan(deltas)] == 0).all()
    # All four tie: a second copy's right boxes come after the first copy's wrong ones.
    other = side(0.8, 0.8, 0.8, 0.8)
    deltas = bootstrap_map_deltas(reference, other, seed=0, resamples=50)
    expected = one_by_one(reference, other, seed=0, resamples=50)
    np.testing.assert_allclose(deltas, expected, rtol=0, atol=1e-12)
    assert np.nanmin(deltas) < -0.1


def misses(images: int, missed: int) -> tuple[Evaluation, Evaluation]:
    """One label an image; the candidate finds nothing in the first `missed` of them."""
    truth = [np.array([[0, 0, 50, 50, 0]], np.float32)] * images
    found = [np.array([[0, 0, 50, 50, 0.9, 0]], np.float32)] * images
    none = [np.empty((0, 6), np.float32)] * missed
    return evaluated(truth, found), evaluated(truth, none + found[missed:])


def test_a_loss_spreads_as_the_binomial_does() -> None:
    images, missed = 200, 20
    deltas = bootstrap_map_deltas(*misses(images, missed), seed=0)
    # Precision is 1 at the recall points up to the recall, which is one less the images missed.
    share = missed / images
    assert deltas.mean() == pytest.approx(-share, abs=0.005)
    assert deltas.std() == pytest.approx((share * (1 - share) / images) ** 0.5, rel=0.15)
    np.testing.assert_allclose(deltas[:, 0], deltas[:, 1], atol=1e-12)
    upper, _ = upper_bounds(deltas)
    assert upper == pytest.approx(share + 1.645 * deltas.std(), abs=0.01)


def test_a_seed_is_a_result_on_every_machine() -> None:
    sides = misses(10, 3)
    deltas = bootstrap_map_deltas(*sides, seed=42, resamples=8)
    # Recall points lost of 101, by the images that PCG64(42) draws.
    lost = [40, 10, 10, 40, 20, 31, 10, 31]
    np.testing.assert_allclose(deltas, np.repeat(lost, 2).reshape(-1, 2) / -101, atol=1e-12)
    assert (bootstrap_map_deltas(*sides, seed=43, resamples=8) != deltas).any()


def test_chunks_and_number_change_no_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    for levels, slack in ((0, 0.0), (3, 1e-15)):
        sides = scene(2, levels=levels)
        monkeypatch.setattr(bootstrap, "CHUNK_BYTES", 2**30)
        expected = bootstrap_map_deltas(*sides, seed=1, resamples=50)
        for size, count in ((1, 50), (100_000, 50), (2**30, 7)):
            monkeypatch.setattr(bootstrap, "CHUNK_BYTES", size)
            deltas = bootstrap_map_deltas(*sides, seed=1, resamples=count)
            # Boxes that tie take places by the largest weight of a chunk, at 0 for most images.
            np.testing.assert_allclose(deltas, expected[:count], rtol=0, atol=slack)


def test_much_work_means_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = scene(0)
    boxes = sum(len(ranking.images) for side in sides for ranking in side.rankings)

    def count(most: int, resamples: int = 1000) -> int:
        monkeypatch.setattr(bootstrap, "MOST_WORK", most)
        return len(bootstrap_map_deltas(*sides, seed=0, resamples=resamples))

    assert count(0) == 200
    assert count(500 * (boxes * 10 + 30)) == 500
    assert count(2000 * (boxes * 10 + 30)) == 1000
    assert count(0, resamples=50) == 50


def test_draws_without_a_label_are_nan_and_left_out() -> None:
    truth = [np.array([[0, 0, 50, 50, 0]], np.float32), *[np.empty((0, 5), np.float32)] * 4]
    found = [np.array([[0, 0, 50, 50, 0.9, 0]], np.float32), *[np.empty((0, 6), np.float32)] * 4]
    nothing = [np.empty((0, 6), np.float32)] * 5
    for other, delta in ((found, 0.0), (nothing, -1.0)):
        sides = evaluated(truth, found), evaluated(truth, other)
        deltas = bootstrap_map_deltas(*sides, seed=0)
        missing = np.isnan(deltas)
        assert (missing[:, 0] == missing[:, 1]).all()
        assert missing[:, 0].mean() == pytest.approx(0.8**5, abs=0.05)
        np.testing.assert_allclose(deltas[~missing], delta, atol=1e-12)
        assert upper_bounds(deltas) == pytest.approx((-delta, -delta), abs=1e-12)


def test_the_bound_is_the_value_that_95_percent_do_not_exceed() -> None:
    first, second = np.arange(1, 1001) / -1000, np.arange(1, 1001) / -2000
    deltas = np.stack([first, second], axis=1)
    assert upper_bounds(deltas) == (0.95, 0.475)
    random = np.random.default_rng(0)
    assert upper_bounds(random.permutation(deltas)) == (0.95, 0.475)
    assert upper_bounds(np.vstack([deltas, np.full((500, 2), np.nan)])) == (0.95, 0.475)
    # Of what is won nothing is lost.
    assert upper_bounds(-deltas) == (0, 0)
    assert upper_bounds(deltas + 0.5) == pytest.approx((0.45, 0))


def test_there_is_no_bound_without_a_labelled_draw() -> None:
    assert upper_bounds(np.full((3, 2), np.nan)) == (None, None)
    assert upper_bounds(np.empty((0, 2))) == (None, None)


def test_a_thousand_resamples_take_less_than_a_second() -> None:
    sides = scene(0, images=170, classes=1, most=8)
    assert min(len(side.rankings[0].scores) for side in sides) > 500
    started = time.process_time()
    assert len(bootstrap_map_deltas(*sides, seed=0)) == 1000
    # Measured: 0.3 s. One resample after the other takes 3 s.
    assert time.process_time() - started < 2.0


def test_memory_is_bounded() -> None:
    sides = scene(0, images=1500, classes=2, levels=5)
    tracemalloc.start()
    try:
        bootstrap_map_deltas(*sides, seed=0, resamples=200)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * bootstrap.CHUNK_BYTES
