"""Records of the best rows of a one-to-one head, those below the threshold among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pillsnap.compare.best_boxes import BestBoxRecorder, BestQueryRecorder
from pillsnap.compare.records import Columns
from pillsnap.config.settings import Nms
from pillsnap.data.datasets import Sample
from pillsnap.pipeline.transforms import Geometry

# Strides of 8 and 16 over 80 x 160 pixels: 200 anchors and 50.
NMS = Nms(conf_threshold=0.5, iou_threshold=1.0, max_detections=200)
WORSE = ("box", 16)
RECORDER = BestBoxRecorder((8, 16), (80, 160), NMS)


@pytest.fixture
def ref() -> np.ndarray:
    """Scores that fall from 0.9; the first and the last anchors are of stride 8 and 16."""
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 60, (1, 250, 2))
    scores = np.linspace(0.9, 0.01, 250).reshape(1, 250, 1)
    found = [low, low + 20, scores, np.zeros_like(scores), np.full_like(scores, np.inf)]
    return np.concatenate(found, axis=-1).astype(np.float32)


def columns(ref: np.ndarray, cand: np.ndarray) -> Columns:
    samples = [Sample("a.png", Path(), None)]
    return RECORDER.columns(samples, [Geometry(1.0, 0, 0, 160, 80)], ref, cand)


def best(rows: np.ndarray, most: int = 220) -> np.ndarray:
    return rows[:, np.argsort(-rows[0, :, 4], kind="stable")[:most], :6]


def test_errors_of_rows_below_the_threshold_are_told_and_they_are_no_boxes(
    ref: np.ndarray,
) -> None:
    cand = best(ref)
    cand[0, 205:, 1] += 0.25
    found = columns(ref, cand)
    np.testing.assert_allclose(found["box_err_px"], [[0, 0.25]], atol=1e-5)
    assert found["cand_boxes_count"] == found["ref_boxes_count"] == found["pairs_count"] == 112
    exact = ref.astype(np.float64)
    exact[0, 200:, 0] += 0.125  # the reference's own
    errors = RECORDER.errors(exact, ref, cand)
    found = {(each.kind, each.stride): (each.reference, each.candidate) for each in errors}
    assert all(found[kind, stride] == (0, 0) for kind, stride in found if (kind, stride) != WORSE)
    own, theirs = found[WORSE]
    assert len(found) == 4 and 0 < own < theirs


def test_rows_of_one_score_may_come_in_any_order(ref: np.ndarray) -> None:
    ref[0, 130:140, 4] = ref[0, 130, 4]
    cand = best(ref)
    cand[0, 130:140] = cand[0, 130:140][::-1]
    assert not columns(ref, cand)["box_err_px"].any()


def test_of_queries_that_no_score_tells_apart_a_few_may_be_others(ref: np.ndarray) -> None:
    recorder, other = BestQueryRecorder((), (80, 160), NMS), best(ref)
    other[0, 130, :4] += 9

    def errors(cand: np.ndarray) -> list[float]:
        return [each.candidate for each in recorder.errors(ref.astype(float), ref, cand)]

    assert errors(other) == [0, 0]
    other[0, 131, :4] += 9
    assert max(errors(other)) > 0


def test_of_rows_whose_scores_rounding_tells_apart_any_may_be_given(ref: np.ndarray) -> None:
    ref[0, 150:, 4] = ref[0, 150, 4] + np.linspace(1e-6, 0, 100)
    other = ref.copy()
    other[0, 150:, 4] = other[0, 150:, 4][::-1]
    assert not columns(ref, best(other))["box_err_px"].any()
    other[0, 140, 1] += 1
    assert columns(ref, best(other))["box_err_px"].any()


def test_no_box_above_the_threshold_is_left_out(ref: np.ndarray) -> None:
    cand = best(ref)
    cand[0, 0, 0] += 0.5
    assert columns(ref, cand)["box_err_px"][0, 0] == pytest.approx(0.5, abs=1e-5)


def test_rows_that_are_padding_stand_for_none(ref: np.ndarray) -> None:
    cand = best(ref)
    cand[0, 150:] = 0
    found = columns(ref, cand)
    assert not found["box_err_px"].any() and not found["lost"].any()
    cand[0, 50] = 0
    assert columns(ref, cand)["lost"].any()
