"""Boxes of queries are compared with their own, in whatever order they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pillsnap.compare.best_boxes import BestQueryRecorder
from pillsnap.compare.matching import match_boxes
from pillsnap.compare.queries import QueryRecorder
from pillsnap.config.settings import Nms
from pillsnap.data.datasets import Sample
from pillsnap.pipeline.transforms import Geometry

NMS = Nms(conf_threshold=0.5, iou_threshold=0.7)
SIZE = (160, 160)


@pytest.fixture
def rows() -> np.ndarray:
    """Of two images 200 queries each, [2,200,7]."""
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 120, (2, 200, 2))
    sides = generator.uniform(10, 40, (2, 200, 2))
    scores = generator.uniform(0.1, 0.9, (2, 200, 1))
    classes = generator.integers(0, 3, (2, 200, 1))
    found = [low, low + sides, scores, classes, np.full_like(scores, 0.05)]
    return np.concatenate(found, axis=-1).astype(np.float32)


def columns_of(ref: np.ndarray, cand: np.ndarray) -> Any:
    recorder = QueryRecorder((), SIZE, NMS)
    samples: Any = [Sample(f"{index}.png", Path(), None) for index in range(len(ref))]
    return recorder.columns(samples, [Geometry(1.0, 0, 0, 160, 160)] * len(ref), ref, cand)


def test_another_order_is_no_difference(rows: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(200)
    found = columns_of(rows, rows[:, order, :6])
    assert found["box_err_px"].tolist() == found["score_err"].tolist() == [[0], [0]]
    assert found["class_flips"].tolist() == [0, 0]
    exact = rows[:, order[::-1]].astype(np.float64)
    for recorder in (QueryRecorder((), SIZE, NMS), BestQueryRecorder((), SIZE, NMS)):
        assert {error.reference for error in recorder.errors(exact, rows, rows[:, order, :6])} == {
            0
        }


def test_a_few_other_queries_are_spared_and_their_boxes_count(rows: np.ndarray) -> None:
    cand = rows[..., :6].copy()
    cand[0, 7] = [150, 150, 155, 155, 0.9, 2]
    found = columns_of(rows, cand)
    assert found["box_err_px"].tolist() == [[0], [0]]
    assert found["cand_boxes_count"][0] != found["pairs_count"][0]
    assert QueryRecorder((), SIZE, NMS).errors(rows.astype(float), rows, cand)[0].candidate == 0


@pytest.mark.parametrize("column", [0, 4])
def test_what_differs_in_many_is_measured(rows: np.ndarray, column: int) -> None:
    cand = rows[..., :6].copy()
    cand[1, :10, column] += 0.3
    found = columns_of(rows, cand)
    name = "box_err_px" if column == 0 else "score_err"
    assert found[name][0, 0] == 0 and found[name][1, 0] == pytest.approx(0.3, abs=1e-5)
    errors = QueryRecorder((), SIZE, NMS).errors(rows.astype(float), rows, cand)
    assert errors[min(column, 1)].candidate > 0.02


def test_a_query_that_is_not_finite_is_never_spared(rows: np.ndarray) -> None:
    cand = rows[..., :6].copy()
    cand[0, 3, 0] = np.nan
    assert columns_of(rows, cand)["cand_finite"].tolist() == [False, True]


def test_a_box_that_the_border_cuts_to_a_line_is_like_itself() -> None:
    rows = np.array([[0, 160, 40, 160, 0.9, 1], [100, 160, 120, 160, 0.8, 1]], np.float32)
    match = match_boxes(rows, rows[::-1])
    assert match.pairs.tolist() == [[0, 1], [1, 0]]
    moved = rows + np.array([60, 0, 60, 0, 0, 0], np.float32)
    assert len(match_boxes(rows[:1], moved[:1]).pairs) == 0
