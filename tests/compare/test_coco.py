"""COCO's mAP on cases small enough to work out by hand, and against pycocotools itself."""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pillsnap.compare.figures.coco import evaluate
from pillsnap.compare.figures.ranking import Evaluation, MeanAP
from tests.compare.resampling import resample

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
    evaluation = evaluate(truth, found, max_detections=max_detections)
    return None if evaluation is None else both(evaluation.mean_ap())


def both(result: MeanAP) -> tuple[float, float]:
    return result.map_0_5, result.map_0_5_0_95


def evaluated(truth: Sequence[Boxes], found: Sequence[Boxes], limit: int = 100) -> Evaluation:
    evaluation = evaluate(truth, found, max_detections=limit)
    assert evaluation is not None
    return evaluation


def approx(*values: float) -> Any:
    return pytest.approx(values, abs=1e-12)


TWO = [truth_of((box(0), 0), (box(100), 1)), truth_of((box(0), 1))]
TWO_FOUND = [found_of((box(0), 0.9, 0), (box(100), 0.8, 1)), found_of((box(0), 0.7, 1))]


def test_finding_every_box_is_one() -> None:
    result = evaluated(TWO, TWO_FOUND).mean_ap()
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
    # Beside a label within COCO's own range of areas, it keeps the box that fits it best.
    within, above = [0.0, 0.0, 9.5e4, 9.5e4], [0.0, 0.0, 9.5e4, 1.3e5]
    found = found_of((above, 0.9, 0), ([0.0, 0.0, 9.5e4, 6e4], 0.8, 0))
    result = measure([truth_of((within, 0), (above, 0))], [found])
    assert result is not None and result[0] == pytest.approx(1.0, abs=1e-12)


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


# Against pycocotools, which the rest of this file does without.


def scene(seed: int, images: int = 25, classes: int = 3) -> tuple[list[Boxes], list[Boxes]]:
    """Random images: some without labels or boxes; most scores tie, within images and across."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        count, extra = int(random.integers(0, 7)), int(random.integers(0, 4))
        corner = random.uniform(0, 200, (count, 2))
        corners = np.hstack([corner, corner + random.uniform(30, 60, (count, 2))])
        label = random.integers(0, classes, (count, 1))
        seen = random.random(count) < 0.85
        moved = corners[seen] + random.normal(0, 3, (int(seen.sum()), 4))
        stray = random.uniform(0, 200, (extra, 2))
        rows = np.vstack([moved, np.hstack([stray, stray + 45])])
        score = random.integers(1, 5, (len(rows), 1)) / 4
        named = np.vstack([label[seen], random.integers(0, classes + 1, (extra, 1))])
        order = random.permutation(len(rows))
        truth.append(np.hstack([corners, label]).astype(np.float32))
        found.append(np.hstack([rows, score, named])[order].astype(np.float32))
    return truth, found


def by_pycocotools(
    truth: Sequence[Boxes], found: Sequence[Boxes], limit: int
) -> tuple[float, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def dataset(images: Sequence[Boxes]) -> Any:
        rows = [(index, *row) for index, boxes in enumerate(images) for row in boxes.tolist()]
        result = COCO()
        result.dataset = {
            "images": [{"id": index} for index in range(len(images))],
            "categories": [{"id": label} for label in sorted({int(row[-1]) for row in rows})],
            "annotations": [
                {
                    "id": number,
                    "image_id": index,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "score": rest[0],
                    "category_id": int(rest[-1]),
                    "iscrowd": 0,
                }
                for number, (index, x1, y1, x2, y2, *rest) in enumerate(rows, 1)
            ],
        }
        result.createIndex()
        return result

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCOeval(dataset(truth), dataset(found), "bbox")
        coco.params.maxDets = [limit]
        coco.params.areaRng, coco.params.areaRngLbl = [[0, 1e10]], ["all"]
        coco.evaluate()
        coco.accumulate()
    precision = coco.eval["precision"]
    means = [values[values > -1].mean() for values in (precision[0], precision)]
    return float(means[0]), float(means[1])


@pytest.mark.parametrize("limit", [100, 2])
@pytest.mark.parametrize("seed", range(5))
def test_equals_pycocotools(seed: int, limit: int) -> None:
    truth, found = scene(seed)
    assert measure(truth, found, limit) == approx(*by_pycocotools(truth, found, limit))


@pytest.mark.parametrize("seed", range(20))
def test_weights_equal_copies_of_the_images(seed: int) -> None:
    images, limit = (25, 100) if seed % 4 else (6, 2)
    truth, found = scene(seed, images, classes=1 + seed % 5)
    random = np.random.default_rng(seed)
    weights = np.bincount(random.integers(0, images, images), minlength=images)
    assert weights.max() > 1 and weights.min() == 0
    copies = np.repeat(np.arange(images), weights)
    expected = by_pycocotools([truth[i] for i in copies], [found[i] for i in copies], limit)
    result = both(resample(evaluated(truth, found, limit), weights))
    assert result == approx(*expected)
    assert result != approx(*by_pycocotools(truth, found, limit))


def test_copies_of_boxes_that_tie_within_an_image_take_turns() -> None:
    # Right, wrong, right, wrong: the second label is found at 2 of 3.
    truth, found = [truth_of((box(0), 0))], [found_of((box(0), 0.5, 0), (box(300), 0.5, 0))]
    taking_turns = (51 + 50 * 2 / 3) / 101
    assert measure(truth * 2, found * 2) == approx(taking_turns, taking_turns)
    assert both(resample(evaluated(truth, found), np.array([2]))) == approx(*[taking_turns] * 2)
    # Where they do not tie, the copies of the surer box come first.
    found = [found_of((box(0), 0.6, 0), (box(300), 0.5, 0))]
    assert both(resample(evaluated(truth, found), np.array([2]))) == approx(1.0, 1.0)


def test_recall_points_are_reached_as_in_coco() -> None:
    # 0.35 as a point is a hair above 35 of 100: 0, 0.01, ..., 0.34 are reached.
    truth = [truth_of(*[(box(60 * i), 0) for i in range(100)])]
    found = [found_of(*[(box(60 * i), 0.9, 0) for i in range(35)])]
    assert measure(truth, found) == approx(35 / 101, 35 / 101)
    assert measure(truth, found) == approx(*by_pycocotools(truth, found, 100))


# Weights


def test_a_class_that_no_image_of_the_sample_labels_does_not_count() -> None:
    truth = [truth_of((box(0), 0)), truth_of((box(0), 1)), truth_of()]
    found = [found_of((box(0), 0.9, 0)), found_of(), found_of((box(0), 0.8, 0))]
    evaluation = evaluated(truth, found)
    assert both(evaluation.mean_ap()) == approx(0.5, 0.5)
    assert both(resample(evaluation, np.array([2, 0, 1]))) == approx(1.0, 1.0)
    assert both(resample(evaluation, np.array([0, 3, 0]))) == approx(0.0, 0.0)
    for weights in ([0, 0, 3], [0, 0, 0]):
        assert np.isnan(both(resample(evaluation, np.array(weights)))).all()


def test_equal_weights_change_nothing_without_ties() -> None:
    truth, found = scene(1)
    random = np.random.default_rng(1)
    for boxes in found:
        boxes[:, 4] = random.random(len(boxes))
    evaluation = evaluated(truth, found)
    expected = both(evaluation.mean_ap())
    assert both(resample(evaluation, np.ones(25, np.int64))) == expected
    assert both(resample(evaluation, np.full(25, 7, np.uint8))) == approx(*expected)


# What is kept


def test_an_evaluation_is_a_few_bytes_for_each_box() -> None:
    truth, found = scene(0, images=200)
    evaluation = evaluated(truth, found)
    assert evaluation.images == 200 and len(evaluation.rankings) == 3
    boxes = 0
    for label, ranking in enumerate(evaluation.rankings):
        assert ranking.scores.dtype == np.float64 and (np.diff(ranking.scores) <= 0).all()
        assert ranking.images.dtype == ranking.labelled.dtype == np.int32
        assert ranking.matched.dtype == np.bool_
        assert ranking.matched.shape == (10, len(ranking.scores))
        # The stricter the threshold, the fewer; nobody finds more than there is.
        assert (np.diff(ranking.matched.sum(axis=1)) <= 0).all()
        assert 0 < ranking.matched[0].sum() <= len(ranking.labelled)
        counts = [int((image[:, 4] == label).sum()) for image in truth]
        np.testing.assert_array_equal(ranking.labelled, np.repeat(np.arange(200), counts))
        boxes += len(ranking.scores)
    assert boxes == sum(int((image[:, 5] < 3).sum()) for image in found)
    stored = pickle.dumps(evaluation)
    assert b"pycocotools" not in stored
    assert len(stored) < 22 * boxes + 4 * sum(map(len, truth)) + 2000
