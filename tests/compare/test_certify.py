"""What a sample certifies: tables of the textbooks, exact arithmetic, and the words."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from decimal import Decimal, localcontext

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pillsnap.compare.certify import (
    CONFIDENCE,
    MOST_TRIALS,
    Certified,
    certify,
    certify_bound,
    in_words,
    samples_needed,
    upper_bound,
)

# The first case imports scipy.
laws = settings(deadline=None)


def bound(failures: int, trials: int) -> float:
    found = upper_bound(failures, trials)
    assert found is not None
    return found


def lower_tail(failures: int, trials: int, p: Decimal) -> Decimal:
    """P(X <= failures), its terms summed with 60 digits; none is negative, so none cancels."""
    with localcontext() as context:
        context.prec = 60
        term = total = (1 - p) ** trials
        for k in range(failures):
            term *= Decimal(trials - k) / (k + 1) * p / (1 - p)
            total += term
        return total


@st.composite
def counts(draw: st.DrawFn, most: int = 400) -> tuple[int, int]:
    """(failures, trials) with at least one trial that did not fail."""
    failures = draw(st.integers(0, most))
    return failures, failures + draw(st.integers(1, 10) | st.integers(1, 3_000_000))


@laws
@given(counts())
def test_the_bound_solves_the_binomial_tail(case: tuple[int, int]) -> None:
    failures, trials = case
    found = bound(failures, trials)
    # In units of the smaller of both sides: p near 1 is known to the digits of 1 - p.
    width = Decimal(min(found, 1 - found)) * Decimal("1e-9")
    alpha = Decimal(1 - CONFIDENCE)
    assert lower_tail(failures, trials, Decimal(found) - width) > alpha
    assert lower_tail(failures, trials, Decimal(found) + width) < alpha


@laws
@given(counts())
def test_more_failures_raise_the_bound_and_more_trials_lower_it(case: tuple[int, int]) -> None:
    failures, trials = case
    here = bound(failures, trials)
    assert failures / trials < here <= 1
    assert here < bound(failures + 1, trials)
    assert bound(failures, trials + 1) < here


@pytest.mark.parametrize(
    ("failures", "trials", "expected"),
    [
        (0, 32, "0.0894"),
        (0, 299, "0.0100"),
        # Clopper-Pearson's two-sided 90 % limits, whose upper one is the one-sided 95 % limit.
        (0, 10, "0.2589"),
        (1, 10, "0.3942"),
        (5, 10, "0.7776"),
        (9, 10, "0.9949"),
        (2, 20, "0.2826"),
        (1, 2, "0.9747"),
    ],
)
def test_bounds_of_the_tables(failures: int, trials: int, expected: str) -> None:
    assert f"{bound(failures, trials):.4f}" == expected


def test_the_ends_of_the_scale() -> None:
    assert upper_bound(0, 0) is None
    assert [upper_bound(n, n) for n in (1, 7, 10**6)] == [1.0] * 3
    for trials in (1, 2, 32, 10**6):
        assert bound(0, trials) == pytest.approx(1 - 0.05 ** (1 / trials), rel=1e-9)
    # Poisson's limit of few failures among very many trials.
    assert bound(3, 10**9) == pytest.approx(7.753656e-9, rel=1e-6)
    # The normal limit of very many.
    assert bound(500_000, 10**6) == pytest.approx(0.5 + 1.6448536 * 0.0005, abs=1e-6)


def test_a_million_samples_cost_no_time() -> None:
    upper_bound(1, 10)  # imports scipy
    started = time.perf_counter()
    for failures in range(0, 5000, 100):
        upper_bound(failures, 10**6)
    assert time.perf_counter() - started < 0.5  # about 0.01 s; a loop over samples takes seconds


@pytest.mark.parametrize(
    ("tolerance", "expected"),
    [
        # Wilks' sample sizes, for 0, 1, 2, … failures at 95 % confidence.
        (0.05, [59, 93, 124, 153, 181]),
        (0.01, [299, 473, 628]),
        (0.001, [2995, 4742]),
        (0.5, [5, 8, 11]),
        (1.0, [1, 1, 2, 3]),
    ],
)
def test_samples_needed_of_the_tables(tolerance: float, expected: list[int]) -> None:
    assert [samples_needed(tolerance, k) for k in range(len(expected))] == expected


def test_no_sample_certifies_that_nothing_ever_fails() -> None:
    assert samples_needed(0) is None
    assert samples_needed(0, 3) is None
    assert samples_needed(2.9 / MOST_TRIALS) is None
    assert samples_needed(1e-8) == math.ceil(math.log(0.05) / math.log1p(-1e-8))


@laws
@given(st.floats(1e-6, 0.999), st.integers(0, 50))
def test_samples_needed_are_the_fewest(tolerance: float, failures: int) -> None:
    needed = samples_needed(tolerance, failures)
    assert needed is not None
    assert bound(failures, needed) <= tolerance
    assert needed == max(1, failures) or bound(failures, needed - 1) > tolerance


def test_a_cell_of_flips() -> None:
    found = certify(0, 32, 0.001)
    assert found == Certified(
        certified_upper=bound(0, 32),
        tolerance=0.001,
        certifies=False,
        trials=32,
        failures=0,
        samples_needed=2995,
    )
    assert certify(0, 2994, 0.001).certifies is False
    assert certify(0, 2995, 0.001).certifies is True
    assert certify(0, 32, None) == Certified(bound(0, 32), None, None, 32, 0, None)
    assert certify(0, 32, 0.0) == Certified(bound(0, 32), 0.0, False, 32, 0, None)
    assert certify(0, 0, 0.01) == Certified(None, 0.01, False, 0, 0, 299)
    # A rate that is above the tolerance is not for want of samples.
    assert certify(1, 1000, 0.001).samples_needed == 4742
    assert certify(1, 999, 0.001).samples_needed is None


def test_a_bound_that_was_found_in_another_way() -> None:
    # Of how many images it would take, nothing is known; nor is there anything that failed.
    assert certify_bound(0.004, 256, 0.01) == Certified(0.004, 0.01, True, 256, None, None)
    assert certify_bound(0.01, 256, 0.01).certifies is True
    assert certify_bound(0.91 - 0.9, 256, 0.01).certifies is True
    assert certify_bound(0.010000001, 256, 0.01).certifies is False
    assert certify_bound(0.004, 256, None) == Certified(0.004, None, None, 256)
    # Of nothing, all is possible.
    assert certify_bound(None, 0, 0.01) == Certified(None, 0.01, False, 0)
    assert certify_bound(None, 0, 1.0).certifies is True
    assert certify_bound(None, 0, None).certifies is None
    assert certify_bound(0.0, 3, 0.0).certifies is True


@pytest.mark.parametrize(
    ("figure", "case", "words"),
    [
        (
            "top1_mismatch_rate",
            (0, 32, 0.001),
            "0 of 32 flipped: certifies 8.9 %; 0.1 % needs 2,995",
        ),
        (
            "unmatched_rate",
            (0, 172, 0.01),
            "0 of 172 boxes unmatched: certifies 1.7 %; 1 % needs 299 boxes",
        ),
        (
            "top1_mismatch_rate",
            (2, 5000, 0.001),
            "2 of 5,000 flipped: certifies 0.13 %; 0.1 % needs 6,294 and no further one",
        ),
        (
            "unmatched_rate",
            (1, 1_000_000, 0.01),
            "1 of 1,000,000 boxes unmatched: certifies 0.00047 %, within 1 %",
        ),
        ("top1_mismatch_rate", (0, 32, None), "0 of 32 flipped: certifies 8.9 %"),
        (
            "top1_mismatch_rate",
            (32, 32, 0.5),
            "32 of 32 flipped: certifies 100 %; no sample of that rate certifies 50 %",
        ),
        (
            "unmatched_rate",
            (0, 0, 0.01),
            "0 of 0 boxes unmatched: certifies nothing; 1 % needs 299 boxes",
        ),
    ],
)
def test_words(figure: str, case: tuple[int, int, float | None], words: str) -> None:
    assert in_words(figure, certify(*case)) == words


def test_the_words_never_round_a_bound_past_its_tolerance() -> None:
    assert in_words("top1_mismatch_rate", certify(0, 298, 0.01)) == (
        "0 of 298 flipped: certifies 1.0002 %; 1 % needs 299"
    )
    almost = replace(certify(0, 32, 0.0894), certified_upper=0.08942, certifies=False)
    assert "certifies 8.942 %; 8.94 % needs" in in_words("top1_mismatch_rate", almost)
    above = certify_bound(0.010001, 9, 0.01)
    assert in_words("map_0_5_delta", above).endswith("certifies 1.0001 %, not 1 %")


@laws
@given(st.floats(0, 1), st.floats(1e-6, 1))
@example(0.99609375, 0.9999999999999999)
def test_the_words_of_a_bound_stand_on_its_side_of_the_tolerance(
    upper: float, tolerance: float
) -> None:
    assume(abs(upper - tolerance) > 1e-12 * tolerance)
    text = in_words("map_0_5_delta", certify_bound(upper, 9, tolerance))
    shown = float(text.partition("certifies ")[2].partition(" %")[0])
    within = upper <= tolerance
    assert (", within " in text) is within
    assert (", not " in text) is not within
    assert (shown <= 100 * tolerance * (1 + 1e-12)) is within
    assert shown == pytest.approx(100 * upper, rel=0.06)


@pytest.mark.parametrize(
    ("figure", "case", "words"),
    [
        (
            "map_0_5_delta",
            (0.004, 256, 0.01),
            "mAP@0.5 loss over 256 images: certifies 0.4 %, within 1 %",
        ),
        (
            "map_0_5_0_95_delta",
            (0.0234, 12_000, 0.01),
            "mAP@0.5:0.95 loss over 12,000 images: certifies 2.3 %, not 1 %",
        ),
        (
            "map_0_5_delta",
            (0.0, 32, 0.01),
            "mAP@0.5 loss over 32 images: certifies 0 %, within 1 %",
        ),
        (
            "map_0_5_0_95_delta",
            (None, 1, 0.01),
            "mAP@0.5:0.95 loss over 1 images: certifies nothing, not 1 %",
        ),
        (
            "map_0_5_delta",
            (0.004, 256, None),
            "mAP@0.5 loss over 256 images: certifies 0.4 %",
        ),
    ],
)
def test_words_of_a_loss(
    figure: str, case: tuple[float | None, int, float | None], words: str
) -> None:
    assert in_words(figure, certify_bound(*case)) == words
