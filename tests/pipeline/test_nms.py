"""Laws of NMS, IoU and matching, and equality with torchvision and ultralytics."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pillsnap.compare.matching import MATCH_IOU, box_iou, match_boxes
from pillsnap.pipeline.nms import Rows, nms

quick = settings(max_examples=80, deadline=None, derandomize=True)


@st.composite
def rows(draw: st.DrawFn, most: int = 30, classes: int = 3) -> Rows:
    """[K, 6]; whole corners and few confidences, so that overlaps and confidences tie often."""
    count = draw(st.integers(0, most))
    corner = draw(arrays(np.int64, (count, 2), elements=st.integers(0, 12)))
    side = draw(arrays(np.int64, (count, 2), elements=st.integers(1, 10)))
    confidence = draw(arrays(np.int64, (count, 1), elements=st.integers(1, 16))) / 16
    label = draw(arrays(np.int64, (count, 1), elements=st.integers(0, classes - 1)))
    return np.hstack([corner, corner + side, confidence, label]).astype(np.float32)


thresholds = st.sampled_from([0.0, 0.25, 1 / 3, 0.45, 0.5, 0.6, 0.7, 1.0])


def scatter(count: int, classes: int, seed: int = 0, span: float = 600) -> Rows:
    """Boxes as a detector's anchors give them: many, overlapping, arbitrary fractions."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, span, (count, 2))
    far = corner + random.uniform(5, 120, (count, 2))
    rest = random.uniform(0, 1, (count, 1)), random.integers(0, classes, (count, 1))
    return np.hstack([corner, far, *rest]).astype(np.float32)


def keep(detections: Rows, **changes: Any) -> list[int]:
    setting = {"conf_threshold": 0.3, "iou_threshold": 0.5, "max_detections": 100}
    kept = nms(detections, **{**setting, "class_agnostic": False, **changes})
    assert kept.dtype == np.int64 and kept.ndim == 1
    return [int(index) for index in kept]


def exact_iou(a: Rows, b: Rows) -> Fraction:
    """IoU of two boxes with whole corners."""
    x1, y1, x2, y2 = (int(v) for v in a[:4])
    u1, v1, u2, v2 = (int(v) for v in b[:4])
    shared = max(min(x2, u2) - max(x1, u1), 0) * max(min(y2, v2) - max(y1, v1), 0)
    return Fraction(shared, (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared)


# NMS: laws


@quick
@given(rows(), thresholds, st.booleans())
def test_kept_rows_are_a_subset_by_falling_confidence(
    detections: Rows, iou_threshold: float, class_agnostic: bool
) -> None:
    kept = keep(detections, iou_threshold=iou_threshold, class_agnostic=class_agnostic)
    assert len(set(kept)) == len(kept)
    assert set(kept) <= set(range(len(detections)))
    assert all(detections[index, 4] > 0.3 for index in kept)
    assert kept == sorted(kept, key=lambda index: (-detections[index, 4], index))


@quick
@given(rows(), thresholds, st.booleans())
def test_kept_rows_are_apart_and_dropped_ones_have_a_reason(
    detections: Rows, iou_threshold: float, class_agnostic: bool
) -> None:
    kept = keep(detections, iou_threshold=iou_threshold, class_agnostic=class_agnostic)

    def rivals(a: int, b: int, slack: float) -> bool:
        # float32 against the exact fraction: a tie with the threshold may fall on either side.
        alike = class_agnostic or detections[a, 5] == detections[b, 5]
        return bool(alike and exact_iou(detections[a], detections[b]) > iou_threshold + slack)

    assert not any(rivals(a, b, 1e-6) for a, b in itertools.combinations(kept, 2))
    for index in set(range(len(detections))) - set(kept):
        if detections[index, 4] > 0.3:
            better = [k for k in kept if (-detections[k, 4], k) < (-detections[index, 4], index)]
            assert any(rivals(k, index, -1e-6) for k in better)


@quick
@given(rows(), thresholds, st.booleans())
def test_nms_of_what_it_kept_keeps_all(
    detections: Rows, iou_threshold: float, class_agnostic: bool
) -> None:
    setting = {"iou_threshold": iou_threshold, "class_agnostic": class_agnostic}
    kept = keep(detections, **setting)
    assert keep(detections[kept], **setting) == list(range(len(kept)))


@quick
@given(rows(), st.integers(1, 10))
def test_the_limit_cuts_the_list_and_changes_nothing_else(detections: Rows, limit: int) -> None:
    assert keep(detections, max_detections=limit) == keep(detections)[:limit]


@quick
@given(rows())
def test_classes_are_suppressed_apart(detections: Rows) -> None:
    apart = [
        int(index)
        for label in range(3)
        for own in [np.flatnonzero(detections[:, 5] == label)]
        for index in own[keep(detections[own])]
    ]
    assert sorted(keep(detections)) == sorted(apart)
    one_class = detections.copy()
    one_class[:, 5] = 0
    assert keep(detections, class_agnostic=True) == keep(one_class)


@quick
@given(rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_ties_only(detections: Rows, random: Any) -> None:
    detections[:, 4] = np.linspace(0.31, 1.0, len(detections))
    order = list(range(len(detections)))
    random.shuffle(order)
    assert [order[index] for index in keep(detections[order])] == keep(detections)


# NMS: cases


def test_a_worked_example() -> None:
    detections = np.array(
        [
            [0, 0, 10, 10, 0.6, 0],  # overlaps row 2 by 0.9: goes
            [50, 50, 60, 60, 0.4, 0],  # alone
            [0, 0, 10, 9, 0.9, 0],
            [0, 0, 10, 10, 0.5, 1],  # another class
            [0, 5, 10, 15, 0.8, 0],  # overlaps row 2 by 40 of 150
            [70, 70, 80, 80, 0.3, 0],  # not above the threshold
        ],
        np.float32,
    )
    assert keep(detections) == [2, 4, 3, 1]
    assert keep(detections, class_agnostic=True) == [2, 4, 1]
    assert keep(detections, max_detections=2) == [2, 4]
    assert keep(detections, conf_threshold=0.55) == [2, 4]
    assert keep(detections, iou_threshold=0.9) == [2, 4, 0, 3, 1]
    assert keep(detections, iou_threshold=0.25) == [2, 3, 1]


def test_a_suppressed_row_suppresses_nothing() -> None:
    chain = np.array([[x, 0, x + 10, 10, 0.9 - x / 100, 0] for x in (0, 3, 6)], np.float32)
    assert keep(chain) == [0, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(6))
def test_rows_that_are_not_finite_neither_stay_nor_suppress(column: int, value: float) -> None:
    detections = np.tile(np.array([0, 0, 10, 10, 0.9, 0], np.float32), (2, 1))
    detections[0, column] = value
    assert keep(detections) == [1]


def test_broken_boxes_do_no_harm() -> None:
    detections = np.array(
        [
            [5, 5, 5, 5, 0.9, 0],
            [5, 5, 5, 5, 0.8, 0],
            [-3e38, -3e38, 3e38, 3e38, 0.7, 0],
            [10, 10, 0, 0, 0.6, 0],
            [0, 0, 10, 10, 0.5, 0],
        ],
        np.float32,
    )
    assert keep(detections) == [0, 1, 2, 3, 4]


def test_no_rows_and_none_confident() -> None:
    assert keep(np.empty((0, 6), np.float32)) == []
    assert keep(scatter(20, 2), conf_threshold=1.0) == []


@pytest.mark.parametrize("shape", [(6,), (3, 5), (3, 7), (1, 3, 6)])
def test_rows_have_six_columns(shape: tuple[int, ...]) -> None:
    wrong, right = np.zeros(shape, np.float32), np.zeros((1, 6), np.float32)
    for call in (keep, lambda x: match_boxes(x, right), lambda x: match_boxes(right, x)):
        with pytest.raises(ValueError, match=r"\[K, 6\]"):
            call(wrong)


def test_an_image_of_anchors_takes_milliseconds() -> None:
    detections = scatter(8400, 5)
    started = time.process_time()
    assert len(keep(detections, conf_threshold=0.0)) == 100
    # Measured: 0.05 s. A Python loop over pairs of rows takes minutes.
    assert time.process_time() - started < 2.0


# NMS: against the implementations users know


@pytest.fixture(scope="module")
def torchvision_ops() -> ModuleType:
    import torchvision

    ops: ModuleType = torchvision.ops
    return ops


@pytest.fixture(scope="module")
def ultralytics_nms(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    # ultralytics uses torchvision's NMS, whose order at equal scores is stable, only where that is
    # imported already; its own sorts them as it happens.
    pytest.importorskip("torchvision")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_OFFLINE", "true")
        patch.setenv("YOLO_AUTOINSTALL", "false")
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        from ultralytics.utils.nms import non_max_suppression
    return non_max_suppression


@quick
@given(rows(most=60), thresholds)
def test_equals_torchvision_at_ties(
    torchvision_ops: ModuleType, detections: Rows, iou_threshold: float
) -> None:
    assert_like_torchvision(torchvision_ops, detections, iou_threshold)


def test_overlaps_that_are_the_threshold_fall_as_in_torchvision(
    torchvision_ops: ModuleType,
) -> None:
    for twentieths in range(1, 20):
        pair = np.array([[0, 0, 20, 10, 0.9, 0], [0, 0, twentieths, 10, 0.8, 0]], np.float32)
        assert_like_torchvision(torchvision_ops, pair, twentieths / 20)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("iou_threshold", [0.3, 0.5, 0.7])
def test_equals_torchvision_on_anchors(
    torchvision_ops: ModuleType, iou_threshold: float, seed: int
) -> None:
    # More than 1000 boxes make torchvision go class by class instead of moving boxes.
    assert_like_torchvision(torchvision_ops, scatter(1200, 4, seed), iou_threshold)


def assert_like_torchvision(ops: ModuleType, detections: Rows, iou_threshold: float) -> None:
    import torch

    boxes, scores, labels = (
        torch.from_numpy(np.ascontiguousarray(part))
        for part in (detections[:, :4], detections[:, 4], detections[:, 5])
    )
    setting = {"iou_threshold": iou_threshold, "conf_threshold": 0.0, "max_detections": 10_000}
    together = keep(detections, class_agnostic=True, **setting)
    assert together == ops.nms(boxes, scores, iou_threshold).tolist()
    assert (
        keep(detections, **setting)
        == ops.batched_nms(boxes, scores, labels, iou_threshold).tolist()
    )


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_equals_ultralytics(
    ultralytics_nms: Callable[..., Any], seed: int, class_agnostic: bool
) -> None:
    import torch

    random = np.random.default_rng(seed)
    # Quarters of a pixel stay exact when ultralytics moves boxes apart by class.
    centre, side = random.integers(0, 1200, (700, 2)) / 4, random.integers(4, 240, (700, 2)) * 0.5
    scores = random.integers(0, 64, (700, 3)) / np.float32(64)
    prediction = np.hstack([centre, side, scores]).astype(np.float32)
    corners = [centre - side / 2, centre + side / 2]
    best = [scores.max(axis=1, keepdims=True), scores.argmax(axis=1)[:, None]]
    detections = np.hstack([*corners, *best]).astype(np.float32)

    for conf_threshold, iou_threshold, limit in ((0.3, 0.5, 100), (0.25, 0.7, 300), (0.9, 0.45, 9)):
        expected = ultralytics_nms(
            torch.from_numpy(prediction.T[None].copy()),
            conf_thres=conf_threshold,
            iou_thres=iou_threshold,
            max_det=limit,
            agnostic=class_agnostic,
        )[0].numpy()
        kept = keep(
            detections,
            conf_threshold=conf_threshold,
            iou_threshold=iou_threshold,
            max_detections=limit,
            class_agnostic=class_agnostic,
        )
        np.testing.assert_array_equal(detections[kept], expected)


def test_confidence_is_compared_as_ultralytics_does(ultralytics_nms: Callable[..., Any]) -> None:
    import torch

    # float32(0.3) is above 0.3 as a double, but is no confidence above the threshold.
    at = np.array([[10, 10, 4, 4, 0.3], [50, 50, 4, 4, np.nextafter(np.float32(0.3), 1)]])
    theirs = ultralytics_nms(torch.tensor(at.T[None], dtype=torch.float32), 0.3, 0.5)[0]
    ours = np.array([[8, 8, 12, 12, 0.3, 0], [48, 48, 52, 52, at[1, 4], 0]], np.float32)
    assert keep(ours) == [1]
    assert theirs[:, 0].tolist() == [48.0]


# IoU


@quick
@given(rows(), rows())
def test_iou_is_exact_symmetric_and_at_most_one(a: Rows, b: Rows) -> None:
    ious = box_iou(a[:, :4], b[:, :4])
    assert ious.dtype == np.float64 and ious.shape == (len(a), len(b))
    np.testing.assert_array_equal(ious, box_iou(b[:, :4], a[:, :4]).T)
    expected = [[float(exact_iou(x, y)) for y in b] for x in a]
    np.testing.assert_allclose(ious, np.reshape(expected, ious.shape), rtol=1e-15)


def test_iou_of_boxes_without_area_is_zero() -> None:
    boxes = np.array([[5, 5, 5, 5], [10, 10, 0, 0], [0, 0, 10, 10]], np.float32)
    np.testing.assert_array_equal(box_iou(boxes, boxes), np.diag([0.0, 0.0, 1.0]))
    mirrored = np.array([[8, 0, 2, 10]], np.float32)
    np.testing.assert_array_equal(box_iou(mirrored, boxes), np.zeros((1, 3)))


# Matching

# Sets of pairs tie within this: the bonus that matching gives to a further pair.
TIE = 1e-8


@st.composite
def crowds(draw: st.DrawFn, most: int = 5, classes: int = 2) -> Rows:
    """[K, 6]; boxes on a few places, so that most have several possible partners."""
    count = draw(st.integers(0, most))
    corner = draw(arrays(np.int64, (count, 2), elements=st.integers(0, 3)))
    side = draw(arrays(np.int64, (count, 2), elements=st.integers(5, 8)))
    label = draw(arrays(np.int64, (count, 1), elements=st.integers(0, classes - 1)))
    return np.hstack([corner, corner + side, np.ones((count, 1)), label]).astype(np.float32)


def possible_pairs(a: Rows, b: Rows) -> dict[tuple[int, int], Fraction]:
    """Exact overlaps of all pairs, of any class, that overlap enough; whole corners."""
    overlaps = {(i, j): exact_iou(a[i], b[j]) for i in range(len(a)) for j in range(len(b))}
    return {pair: iou for pair, iou in overlaps.items() if iou >= Fraction(MATCH_IOU)}


def best(pairs: dict[tuple[int, int], Fraction]) -> tuple[Fraction, int]:
    """The largest total and, for that, the most pairs, over every one-to-one set of pairs."""
    if not pairs:
        return Fraction(0), 0
    row = min(i for i, _ in pairs)
    rest = {pair: iou for pair, iou in pairs.items() if pair[0] != row}
    outcomes = [best(rest)]
    for (i, j), iou in pairs.items():
        if i == row:
            total, count = best({pair: v for pair, v in rest.items() if pair[1] != j})
            outcomes.append((total + iou, count + 1))
    return max(outcomes)


def greedy_total(a: Rows, b: Rows) -> float:
    """Total overlap of pairing by falling overlap."""
    ious = box_iou(a[:, :4], b[:, :4]) * (a[:, None, 5] == b[:, 5])
    total = 0.0
    while ious.size and ious.max() >= MATCH_IOU:
        i, j = np.unravel_index(ious.argmax(), ious.shape)
        total += float(ious[i, j])
        ious[i, :] = ious[:, j] = 0
    return total


@quick
@given(st.one_of(st.tuples(rows(), rows()), st.tuples(crowds(30), crowds(30))))
def test_matching_is_one_to_one_and_leaves_no_pair_that_could_be(sides: tuple[Rows, Rows]) -> None:
    a, b = sides
    matches = match_boxes(a, b)
    assert matches.pairs.dtype == np.int64 and matches.pairs.shape == (len(matches.ious), 2)
    assert matches.ious.dtype == np.float64
    left, right = matches.pairs.T
    assert left.tolist() == sorted(set(left.tolist()))
    assert len(set(right.tolist())) == len(right)
    ious = box_iou(a[:, :4], b[:, :4])
    np.testing.assert_array_equal(matches.ious, ious[left, right])
    assert (a[left, 5] == b[right, 5]).all()
    possible = (ious >= MATCH_IOU) & (a[:, None, 5] == b[:, 5])
    assert possible[left, right].all()
    possible[left], possible[:, right] = False, False
    assert not possible.any()


@settings(quick, max_examples=300)
@given(crowds(), crowds())
def test_no_other_set_of_pairs_overlaps_more(a: Rows, b: Rows) -> None:
    matches = match_boxes(a, b)
    pairs = possible_pairs(a, b)
    total, count = best({(i, j): v for (i, j), v in pairs.items() if a[i, 5] == b[j, 5]})
    assert matches.ious.sum() == pytest.approx(float(total), abs=TIE)
    assert len(matches.pairs) == count
    # The same over the rest, whatever the class.
    left, right = (set(side.tolist()) for side in matches.pairs.T)
    rest = {(i, j): v for (i, j), v in pairs.items() if i not in left and j not in right}
    assert matches.class_flips == best(rest)[1]


@quick
@given(crowds(12), crowds(12))
def test_pairing_by_falling_overlap_is_never_better(a: Rows, b: Rows) -> None:
    assert match_boxes(a, b).ious.sum() >= greedy_total(a, b) - TIE


@settings(quick, max_examples=200)
@given(crowds(12, classes=1), crowds(12, classes=1), st.randoms(use_true_random=False))
def test_neither_side_nor_order_changes_total_and_count(a: Rows, b: Rows, random: Any) -> None:
    order_a, order_b = list(range(len(a))), list(range(len(b)))
    random.shuffle(order_a)
    random.shuffle(order_b)
    expected = match_boxes(a, b)
    for other in (match_boxes(b, a), match_boxes(a[order_a], b[order_b])):
        assert other.ious.sum() == pytest.approx(expected.ious.sum(), abs=TIE)
        assert len(other.pairs) == len(expected.pairs)


@quick
@given(st.one_of(rows(), crowds(30)))
def test_distinct_boxes_match_themselves(detections: Rows) -> None:
    _, first = np.unique(detections[:, [0, 1, 2, 3, 5]], axis=0, return_index=True)
    detections = detections[np.sort(first)]
    matches = match_boxes(detections, detections)
    np.testing.assert_array_equal(
        matches.pairs, np.repeat(np.arange(len(detections)), 2).reshape(-1, 2)
    )
    np.testing.assert_array_equal(matches.ious, np.ones(len(detections)))
    assert matches.class_flips == 0


def row_of(*boxes: tuple[float, float], label: float = 0) -> Rows:
    """Boxes of 10 pixels in height that reach from x to x."""
    return np.array([[x1, 0, x2, 10, 0.9, label] for x1, x2 in boxes], np.float32).reshape(-1, 6)


def test_neighbours_that_overlap_more_do_not_split_pairs() -> None:
    # Each box of the candidate is 2 right of its own and 0.5 left of the next one of the reference.
    reference = row_of((0, 10), (2.5, 12.5), (5, 15))
    candidate = row_of((2, 12), (4.5, 14.5), (7, 17))
    matches = match_boxes(reference, candidate)
    assert matches.pairs.tolist() == [[0, 0], [1, 1], [2, 2]]
    np.testing.assert_allclose(matches.ious, [8 / 12] * 3)
    assert greedy_total(reference, candidate) == pytest.approx(2 * 9.5 / 10.5)
    # Beside pairs without a choice, and in another order.
    alone = row_of((100, 110)), row_of((200, 210))
    a = np.vstack([alone[0], reference, alone[1]])
    b = np.vstack([alone[1], candidate[::-1], alone[0]])
    assert match_boxes(a, b).pairs.tolist() == [[0, 4], [1, 3], [2, 2], [3, 1], [4, 0]]


def test_of_equal_totals_the_one_of_more_pairs() -> None:
    # Two pairs that overlap by 1 leave two boxes alone; pairing those too makes three of 2 / 3.
    for shift, count in ((2.0, 3), (2.001, 2), (1.999, 3)):
        reference, candidate = (
            row_of(*[(shift * i, shift * i + 10) for i in range(first, first + 3)])
            for first in (0, 1)
        )
        for rows_a, rows_b in itertools.product(itertools.permutations(range(3)), repeat=2):
            a, b = reference[list(rows_a)], candidate[list(rows_b)]
            assert len(match_boxes(a, b).pairs) == len(match_boxes(b, a).pairs) == count


def test_boxes_named_differently_are_flips_and_stay_unmatched() -> None:
    reference = np.vstack([row_of(*[(20 * i, 20 * i + 10) for i in range(5)]), row_of((0, 10))])
    candidate = reference.copy()
    assert match_boxes(reference, candidate).class_flips == 0
    for flipped in range(1, 5):
        candidate[flipped, 5] = 7
        for a, b in ((reference, candidate), (candidate, reference)):
            matches = match_boxes(a, b)
            assert matches.class_flips == flipped
            assert len(matches.pairs) == len(reference) - flipped


def test_a_flip_takes_two_boxes_that_nothing_else_takes() -> None:
    right, wrong = row_of((0, 10)), row_of((0, 10), label=1)
    # The candidate has the right box too: its other one is just one too many.
    assert match_boxes(right, np.vstack([wrong, right])).class_flips == 0
    # One box cannot be the flip of two.
    assert match_boxes(right, np.vstack([wrong, wrong])).class_flips == 1
    assert match_boxes(np.vstack([right, right]), wrong).class_flips == 1
    # Too far away, by IoU.
    assert match_boxes(right, row_of((5, 15), label=1)).class_flips == 0


def test_only_boxes_with_a_choice_need_scipy() -> None:
    code = """
import sys, numpy as np
from pillsnap.compare.matching import match_boxes
loaded = set(sys.modules)
boxes = np.array([[100 * i, 0, 100 * i + 50, 50, 0.9, i % 2] for i in range(5)], np.float32)
assert len(match_boxes(boxes, boxes[::-1]).pairs) == 5
flipped = boxes.copy()
flipped[0, 5] = 9
assert match_boxes(boxes, flipped).class_flips == 1
assert "scipy" not in sys.modules
assert len(match_boxes(boxes, np.vstack([boxes, boxes])).pairs) == 5
assert "scipy" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_hundreds_of_crowded_boxes_take_milliseconds() -> None:
    a, b = scatter(300, 2, span=200), scatter(300, 2, seed=1, span=200)
    started = time.process_time()
    assert len(match_boxes(a, b).pairs) > 50
    # Measured: 0.01 s beside the import of scipy, 0.5 s.
    assert time.process_time() - started < 2.0


def test_a_worked_match() -> None:
    reference = np.array(
        [[0, 0, 10, 10, 0.9, 0], [100, 0, 110, 10, 0.8, 0], [200, 0, 210, 10, 0.7, 1]], np.float32
    )
    candidate = np.array(
        [
            [200, 0, 210, 10, 0.9, 0],  # the third, but of another class
            [100, 0, 110, 5, 0.8, 0],  # half of the second: just enough
            [0, 0, 10, 8, 0.7, 0],  # 0.8 of the first
            [0, 0, 10, 9, 0.6, 0],  # 0.9 of the first
        ],
        np.float32,
    )
    matches = match_boxes(reference, candidate)
    assert matches.pairs.tolist() == [[0, 3], [1, 1]]
    np.testing.assert_allclose(matches.ious, [0.9, 0.5])
    candidate[1, 3] = 4.9
    assert match_boxes(reference, candidate).pairs.tolist() == [[0, 3]]


def test_equal_boxes_pair_up_as_far_as_they_go() -> None:
    same = np.tile(np.array([0, 0, 10, 10, 0.9, 0], np.float32), (3, 1))
    for a, b in ((same[:1], same), (same, same[:1]), (same, same[:2]), (same, same)):
        assert len(match_boxes(a, b).pairs) == min(len(a), len(b))


def test_nothing_to_match() -> None:
    none, some = np.empty((0, 6), np.float32), scatter(3, 1)
    for a, b in ((none, some), (some, none), (none, none)):
        matches = match_boxes(a, b)
        assert matches.pairs.shape == (0, 2) and matches.ious.shape == (0,)
        assert matches.pairs.dtype == np.int64 and matches.class_flips == 0
