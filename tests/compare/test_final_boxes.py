"""Records of boxes after an NMS inside: pairs, what has none, and which anchor a box is held to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pillsnap.compare.final_boxes import FinalBoxRecorder
from pillsnap.compare.records import Columns
from pillsnap.config.settings import Nms
from pillsnap.data.datasets import Sample
from pillsnap.pipeline.transforms import Geometry

NMS = Nms(conf_threshold=0.25, iou_threshold=0.5, max_detections=10)
# Strides of 16 and 32 over 32 x 32 pixels: four anchors and one.
RECORDER = FinalBoxRecorder((16, 32), (32, 32), NMS)


def reference() -> np.ndarray:
    rows = np.zeros((1, 5, 7), np.float32)
    rows[..., 6] = np.inf
    rows[0, 0, :6] = [0, 0, 10, 10, 0.9, 0]
    rows[0, 1, :6] = [0, 0, 10, 11, 0.9, 0]  # drops out for the one before, at the same score
    rows[0, 2, :6] = [0, 0, 10, 12, 0.5, 0]
    rows[0, 4, :6] = [16, 16, 30, 30, 0.8, 1]
    return rows


def candidate(*rows: list[float]) -> np.ndarray:
    output = np.zeros((1, 10, 6), np.float32)
    output[0, : len(rows)] = rows
    return output


def columns(cand: np.ndarray) -> Columns:
    sample, geometry = Sample("a.png", Path(), None), Geometry(1.0, 0, 0, 32, 32)
    return RECORDER.columns([sample], [geometry], reference(), cand)


FIRST, LAST = [0, 0, 10, 10, 0.9, 0], [16, 16, 30, 30, 0.8, 1]


def test_pairs_are_compared_by_the_stride_of_their_anchors() -> None:
    found = columns(candidate([16, 16, 30, 30.5, 0.75, 1], FIRST))
    np.testing.assert_allclose(found["box_err_px"], [[0, 0.5]])
    np.testing.assert_allclose(found["score_err"], [[0, 0.05]], atol=1e-6)
    assert found["ref_strides"].tolist() == [[1, 1]]
    assert [found[f"{side}_boxes_count"][0] for side in ("ref", "cand")] == [2, 2]
    assert found["pairs_count"].tolist() == [2]


def test_of_boxes_at_one_score_either_may_be_kept() -> None:
    found = columns(candidate([0, 0, 10, 11, 0.9, 0], LAST))
    assert not found["box_err_px"].any()
    assert found["pairs"][:, 0].max() == pytest.approx(1 / 11)  # and it overlaps less, as it is
    # One of a lower score is no choice of an NMS.
    assert columns(candidate([0, 0, 10, 12, 0.9, 0], LAST))["box_err_px"].max() == 1
    assert columns(candidate([0, 0, 10, 12, 0.5, 0], LAST))["score_err"].max() > 0.3


@pytest.mark.parametrize(
    ("rows", "pairs", "flips"),
    [
        ([FIRST], 1, 0),
        ([FIRST, LAST, LAST], 2, 0),
        ([FIRST, [16, 16, 30, 30, 0.8, 0]], 1, 1),
        ([FIRST, LAST, [20, 0, 30, 9, 0.01, 0]], 2, 0),  # below the threshold, and there
    ],
)
def test_what_one_side_has_alone_is_unmatched(
    rows: list[list[float]], pairs: int, flips: int
) -> None:
    found = columns(candidate(*rows))
    assert found["cand_boxes_count"].tolist() == [len(rows)]
    assert (found["pairs_count"][0], found["box_class_flips"][0]) == (pairs, flips)


def test_errors_are_of_both_sides_boxes_alone() -> None:
    exact = reference().astype(np.float64)
    ref = reference()
    ref[0, 2, :4] += 1e-3  # in play, and kept by nobody
    cand = candidate([0, 0, 10, 10.01, 0.9, 0], LAST)
    found = {(each.kind, each.stride): each for each in RECORDER.errors(exact, ref, cand)}
    assert found.keys() == {(kind, stride) for kind in ("box", "score") for stride in (16, 32)}
    assert found["box", 16].candidate == pytest.approx(0.005, rel=1e-3)
    # The reference's own is of all that is in play.
    assert found["box", 16].reference == pytest.approx(1e-3 / 3**0.5, rel=1e-2)
    assert found["box", 32].candidate == 0


def test_a_reference_answers_as_a_candidate_does() -> None:
    answer = RECORDER.as_candidate(reference())
    np.testing.assert_array_equal(answer, candidate(FIRST, LAST))
    again = RECORDER.as_reference(answer, reference())
    assert again.shape == (1, 10, 7)
