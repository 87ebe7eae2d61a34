"""COCO's mAP on cases small enough to work out by hand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pillsnap.coco import MeanAP, average_precision

Boxes = NDArray[np.float32]


def box(x: float, *, share: float = 1.0) -> list[float]:
    """A box of 40 x 40 pixels at x, or the upper share of it, which is then its IoU with it."""
    return [x, 10.0, x + 40.0, 10.0 + 40.0 * share]


def truth_of(*rows: tuple[list[float], int]) -> Boxes:
    return np.array([[*corners, label] for corners, label in rows], np.float32).reshape(-1, 5)


def found_of(*rows: tuple[list[float], float, int]) -> Boxes:
    return np.array([[*corners, *rest] for corners, *rest in rows], np.float32).reshape(-1, 6)


def measure(
    truth: Sequence[Boxes], found: Sequence[Boxes], max_detections: int = 100
) -> tuple[float, float] | None:
    result = average_precision(truth, found, max_detections=max_detections)
    return None if result is None else (result.map_0_5, result.map_0_5_0_95)


def approx(*values: float) -> Any:
    return pytest.approx(values, abs=1e-12)


TWO = [truth_of((box(0), 0), (box(100), 1)), truth_of((box(0), 1))]
TWO_FOUND = [found_of((box(0), 0.9, 0), (box(100), 0.8, 1)), found_of((box(0), 0.7, 1))]


def test_finding_every_box_is_one() -> None:
    result = average_precision(TWO, TWO_FOUND, max_detections=100)
    assert isinstance(result, MeanAP)
    assert (result.map_0_5, result.map_0_5_0_95) == approx(1.0, 1.0)
    assert type(result.map_0_5) is float


def test_no_label_anywhere_is_none() -> None:
    empty = [truth_of(), truth_of()]
    assert measure(empty, TWO_FOUND) is None
    assert measure(empty, [found_of(), found_of()]) is None
    assert measure([], []) is None


def test_finding_nothing_is_zero() -> None:
    assert measure(TWO, [found_of(), found_of()]) == approx(0.0, 0.0)


def test_images_without_labels_or_boxes_take_part() -> None:
    truth, found = [truth_of(), *TWO, truth_of()], [found_of(), *TWO_FOUND, found_of()]
    assert measure(truth, found) == approx(1.0, 1.0)
    # A wrong box on an empty image, surer than the right ones of its class: 1/2 and 2/3.
    found[0] = found_of((box(0), 0.95, 1))
    assert measure(truth, found) == approx(*[(1.0 + 2 / 3) / 2] * 2)


def test_iou_decides_the_thresholds_that_a_box_passes() -> None:
    truth = [truth_of((box(0), 0))]
    # 0.72 passes 0.5, 0.55, 0.6, 0.65 and 0.7: five of ten.
    assert measure(truth, [found_of((box(0, share=0.72), 0.9, 0))]) == approx(1.0, 0.5)
    assert measure(truth, [found_of((box(0, share=0.48), 0.9, 0))]) == approx(0.0, 0.0)


def test_half_the_boxes() -> None:
    # Recall reaches 0.5: precision is 1 at the 51 recall points 0, 0.01, ..., 0.5 of 101.
    truth = [truth_of((box(0), 0)), truth_of((box(0), 0))]
    found = [found_of((box(0), 0.9, 0)), found_of()]
    assert measure(truth, found) == approx(51 / 101, 51 / 101)


def test_extra_boxes_cost_precision_only_where_they_rank() -> None:
    truth = [truth_of((box(0), 0), (box(100), 0))]
    right = [(box(0), 0.9, 0), (box(100), 0.7, 0)]
    assert measure(truth, [found_of(*right, (box(300), 0.1, 0))]) == approx(1.0, 1.0)
    # Between the two: 51 points at 1, then 2/3.
    between = (51 + 50 * 2 / 3) / 101
    assert measure(truth, [found_of(*right, (box(300), 0.8, 0))]) == approx(between, between)
    # A second box on a pill that was found already is as wrong as one in the void.
    assert measure(truth, [found_of(*right, (box(0), 0.8, 0))]) == approx(between, between)


def test_a_box_of_the_wrong_class_is_wrong_in_its_class() -> None:
    truth = [truth_of((box(0), 0), (box(100), 1))]
    found = [found_of((box(0), 0.9, 1), (box(100), 0.8, 1))]
    # Class 0 found nothing; class 1 has its box after a wrong one.
    assert measure(truth, found) == approx(0.25, 0.25)


def test_a_class_without_labels_does_not_count() -> None:
    truth, found = [truth_of((box(0), 3))], [found_of((box(0), 0.5, 3), (box(0), 0.9, 8))]
    assert measure(truth, found) == approx(1.0, 1.0)


def test_classes_weigh_the_same() -> None:
    truth = [truth_of(*[(box(60 * i), 0) for i in range(9)], (box(600), 1))]
    found = [found_of(*[(box(60 * i), 0.9, 0) for i in range(9)])]
    assert measure(truth, found) == approx(0.5, 0.5)


def test_the_limit_counts_per_image_and_class() -> None:
    truth = [truth_of(*[(box(60 * i), 0) for i in range(150)], (box(0), 1))]
    found = [found_of(*[(box(60 * i), 1 - i / 200, 0) for i in range(150)], (box(0), 0.01, 1))]
    assert measure(truth, found, max_detections=151) == approx(1.0, 1.0)
    # 75 of 150: recall 0.5 for class 0; class 1 keeps its box.
    half = (51 / 101 + 1) / 2
    assert measure(truth, found, max_detections=75) == approx(half, half)
    assert measure(truth, found, max_detections=1) == approx(*[(1 / 101 + 1) / 2] * 2)


@pytest.mark.parametrize("swapped", [False, True])
def test_equal_confidences_rank_in_the_order_given(swapped: bool) -> None:
    truth = [truth_of((box(0), 0))]
    rows = [(box(0), 0.5, 0), (box(300), 0.5, 0)]
    expected = 0.5 if swapped else 1.0
    rows = rows[::-1] if swapped else rows
    assert measure(truth, [found_of(*rows)]) == approx(expected, expected)
    apart = [found_of(row) for row in rows]
    two = [truth, [truth_of()]] if not swapped else [[truth_of()], truth]
    assert measure([boxes for part in two for boxes in part], apart) == approx(expected, expected)


def test_an_inverted_or_huge_box_is_wrong_not_ignored() -> None:
    truth = [truth_of((box(0), 0))]
    right = (box(0), 0.5, 0)
    inverted, huge = [40.0, 50.0, 0.0, 10.0], [0.0, 0.0, 2e5, 2e5]
    mirrored, flipped = [40.0, 10.0, 0.0, 50.0], [0.0, 50.0, 40.0, 10.0]
    for wrong in (inverted, mirrored, flipped, huge):
        assert measure(truth, [found_of((wrong, 0.9, 0), right)]) == approx(0.5, 0.5)


def test_a_huge_label_counts() -> None:
    huge = [0.0, 0.0, 2e5, 2e5]
    assert measure([truth_of((huge, 0))], [found_of()]) == approx(0.0, 0.0)


def test_agrees_with_the_textbook_on_random_boxes() -> None:
    random = np.random.default_rng(0)
    truth, found = [], []
    for _ in range(12):
        count = int(random.integers(0, 6))
        corner = np.stack([np.arange(count) * 100.0, np.zeros(count)], axis=1)
        label = random.integers(0, 3, (count, 1))
        truth.append(np.hstack([corner, corner + 50, label]))
        seen = random.random(count) < 0.8
        shift = random.uniform(-15, 15, (count, 4))
        confidence = random.uniform(0, 1, (count, 1))
        boxes = np.hstack([np.hstack([corner, corner + 50]) + shift, confidence, label])[seen]
        stray = np.array([[700, 700, 760, 760, random.uniform(0, 1), random.integers(0, 3)]])
        found.append(np.vstack([boxes, stray]))
    expected = [textbook(truth, found, 0.5 + 0.05 * step) for step in range(10)]
    assert measure(truth, found) == approx(expected[0], float(np.mean(expected)))
    assert 0.2 < expected[0] < 0.95


def textbook(truth: list[Any], found: list[Any], threshold: float) -> float:
    """mAP where labels are far apart, so that a found box can only belong to one of them."""
    averages = []
    for label in sorted({int(row[4]) for boxes in truth for row in boxes}):
        own = [boxes[boxes[:, 4] == label] for boxes in truth]
        ranked = sorted(
            (-row[4], image, tuple(row[:4]))
            for image, boxes in enumerate(found)
            for row in boxes
            if int(row[5]) == label
        )
        hits = [any(overlap(row, t) >= threshold for t in own[image]) for _, image, row in ranked]
        right = np.cumsum(hits)
        recall = right / sum(map(len, own))
        precision = right / np.arange(1, len(hits) + 1)
        points = [precision[recall >= r - 1e-12] for r in np.linspace(0, 1, 101)]
        averages.append(np.mean([p.max() if len(p) else 0.0 for p in points]))
    return float(np.mean(averages))


def overlap(a: Any, b: Any) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return float(width * height / (sum(areas) - width * height))


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    stdout = sys.stdout
    measure(TWO, TWO_FOUND)
    assert sys.stdout is stdout
    assert capfd.readouterr() == ("", "")


def test_errors_come_through_and_stdout_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from pycocotools.cocoeval import COCOeval

    def broken(self: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(COCOeval, "evaluate", broken)
    stdout = sys.stdout
    with pytest.raises(RuntimeError, match="broken"):
        measure(TWO, TWO_FOUND)
    assert sys.stdout is stdout


def test_the_arguments_are_left_alone() -> None:
    truth, found = [b.copy() for b in TWO], [b.copy() for b in TWO_FOUND]
    measure(truth, found)
    for before, after in zip([*TWO, *TWO_FOUND], [*truth, *found], strict=True):
        np.testing.assert_array_equal(before, after)


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="truth has 2 images, found has 1"):
        measure(TWO, TWO_FOUND[:1])
    with pytest.raises(ValueError, match=r"found\[1\] must be \[K, 6\], got \[3, 5\]"):
        measure(TWO, [TWO_FOUND[0], np.zeros((3, 5), np.float32)])
    with pytest.raises(ValueError, match=r"truth\[0\] must be \[K, 5\]"):
        measure([np.zeros((1, 4), np.float32), TWO[1]], TWO_FOUND)
