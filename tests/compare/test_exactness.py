"""How exact outputs are in units of the reference's own rounding error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillsnap.compare.detection import DetectionRecorder
from pillsnap.compare.exactness import (
    OutputPart,
    PartError,
    exactness_metrics,
    measure_errors,
)
from pillsnap.config.settings import Nms


def errors_of(exact: np.ndarray, ref: np.ndarray, cand: np.ndarray, scale: float = 0) -> PartError:
    sides = ([OutputPart("logits", side, scale=scale)] for side in (exact, ref, cand))
    (found,) = measure_errors(*sides)
    return found


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 24))


@given(seed=st.integers(0, 99), scale=st.floats(1e-6, 1e6), factor=st.floats(0.01, 1000))
def test_it_is_the_ratio_of_both_errors_whatever_the_size_of_the_outputs(
    seed: int, scale: float, factor: float
) -> None:
    exact, error = scale * drawn(seed), 1e-4 * scale * drawn(seed + 100)
    found = errors_of(exact, exact + error, exact + factor * error)
    assert found.exactness == pytest.approx(factor)
    assert found.signal == pytest.approx(math.sqrt((exact**2).mean()))


@given(seed=st.integers(0, 99))
def test_another_rounding_of_the_same_numbers_is_about_as_exact(seed: int) -> None:
    exact = drawn(seed)
    rounded = exact.astype(np.float32)
    other = np.nextafter(rounded, np.float32(np.inf))
    assert errors_of(exact, rounded, rounded).exactness <= 1
    assert 1 < errors_of(exact, rounded, other).exactness < 4


def test_a_reference_without_an_error_is_given_half_a_unit_in_the_last_place() -> None:
    exact = np.ones((4, 3))
    ulp = float(np.spacing(np.float32(1)))
    found = errors_of(exact, exact.astype(np.float32), exact + 3 * ulp)
    assert found.exactness == pytest.approx(6)
    # A head of zeros has no scale of its own.
    zeros = np.zeros((4, 3))
    assert errors_of(zeros, zeros, zeros).exactness == 0
    assert errors_of(zeros, zeros, zeros + 1e-30).exactness > 4
    # Sigmoids are computed around a half.
    tiny = errors_of(zeros, zeros, zeros + 3e-8, scale=0.5)
    assert tiny.exactness == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_candidate_that_is_not_finite_is_infinitely_wrong(bad: float) -> None:
    exact = drawn(0)
    broken = exact.astype(np.float32)
    broken[1, 2] = bad
    found = errors_of(exact, exact.astype(np.float32), broken)
    assert (found.candidate, found.exactness, found.bits) == (math.inf, math.inf, 0)
    # Of a reference that is not finite nothing can be said.
    metrics = exactness_metrics([errors_of(exact, broken, broken)], ["logits_exactness"])
    names = {"logits_exactness", "logits_rounding", "precision_bits"}
    assert metrics == dict.fromkeys(names)


@pytest.mark.parametrize(("kind", "least", "most"), [(np.float32, 23, 27), (np.float16, 10, 13)])
def test_bits_are_those_of_the_number_format(kind: type, least: float, most: float) -> None:
    exact = drawn(3)
    rounded = exact.astype(np.float32)
    assert least < errors_of(exact, rounded, exact.astype(kind)).bits < most


def test_every_stride_has_boxes_and_scores_of_its_own() -> None:
    recorder = DetectionRecorder((8, 16), (32, 32), Nms())
    exact = np.random.default_rng(0).uniform(size=(2, 20, 7))
    exact[..., :4] *= 32
    ref = exact.astype(np.float32)
    cand = ref[..., :6].copy()
    cand[:, 16:, 4] += 1e-3
    cand[..., 5] += 1  # near ties change it in healthy exports
    errors = measure_errors(*map(recorder.parts, (exact, ref, cand)))
    assert [(each.kind, each.stride) for each in errors] == [
        *(("box", 8), ("score", 8), ("box", 16), ("score", 16))
    ]
    rows = [{"stride": 8}, {"stride": 16}]
    metrics = exactness_metrics(errors, ["box_exactness", "score_exactness"], rows)
    assert 0 < metrics["box_exactness"] <= 1
    assert 0 < rows[0]["score_exactness"] <= 1
    assert rows[1]["score_exactness"] == metrics["score_exactness"]
    assert (
        metrics["box_rounding"]
        == max(row["box_rounding"] for row in rows)
        == max(each.rounding for each in errors if each.kind == "box")
    )
    assert metrics["score_exactness"] > 1e3
