"""Figures against plain formulas, through the real recorders, on made-up logits and boxes."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.detection import DetectionRecorder
from pillsnap.compare.figures import Figures, mean, quantile, take, total, worst_samples
from pillsnap.compare.figures.bootstrap import bootstrap_map_deltas, upper_bounds
from pillsnap.compare.figures.classification import binomial_tail, classification_figures
from pillsnap.compare.figures.coco import evaluate
from pillsnap.compare.figures.detection import detection_figures
from pillsnap.compare.hints import likely_causes
from pillsnap.compare.records import Columns, Records, concatenate, unragged, write_records
from pillsnap.compare.verdict import certified, judge
from pillsnap.config.settings import Nms
from pillsnap.config.tolerances import Profiles
from pillsnap.data.datasets import Sample
from pillsnap.data.labels import Box
from pillsnap.pipeline.preprocess import letterbox_tensor
from pillsnap.pipeline.transforms import Geometry, LetterboxTransform

laws = settings(max_examples=60, deadline=None, database=None)

Logits = NDArray[np.float32]


def close(value: float, rel: float = 1e-9) -> Any:
    return pytest.approx(value, rel=rel, abs=1e-15)


@contextmanager
def in_files(parts: Sequence[Columns]) -> Iterator[Records]:
    """The parts as the files of a cell's shards."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.records" for number in range(len(parts))]
        yield Records(
            [(path, write_records(path, part)) for path, part in zip(paths, parts, strict=True)]
        )


def assert_plain(value: Any) -> None:
    """Nothing but builtins: no numpy scalar, which neither JSON nor xdist takes."""
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            assert_plain(item)
    else:
        assert type(value) in (int, float, str, bool, type(None))


def contents(names: Sequence[str]) -> NDArray[np.uint8]:
    """The column of the files' hashes: of files of these contents."""
    digests = b"".join(hashlib.sha256(name.encode()).digest() for name in names)
    return np.frombuffer(digests, np.uint8).reshape(len(names), 32)


# ---------------------------------------------------------------------------- classification


def one_hot(classes: Sequence[int], num_classes: int, height: float = 60.0) -> Logits:
    """Logits that name these classes, by default with probability 1."""
    logits = np.zeros((len(classes), num_classes), np.float32)
    logits[np.arange(len(classes)), classes] = height
    return logits


def record(
    ref: Logits, cand: Logits, labels: Sequence[int | None] | None = None, start: int = 0
) -> Columns:
    labels = labels if labels is not None else [None] * len(ref)
    samples = [
        Sample(f"{start + index:04}.png", Path("x"), label) for index, label in enumerate(labels)
    ]
    columns = ClassificationRecorder().columns(samples, [], ref, cand)
    return {**columns, "content": contents([sample.id for sample in samples])}


def classify(ref: Logits, cand: Logits, labels: Sequence[int | None] | None = None) -> Figures:
    return classification_figures(record(ref, cand, labels), ref.shape[1])


def softmax_by_hand(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(value - max(logits)) for value in logits]
    return [power / sum(powers) for power in powers]


def drifted_pair(samples: int, classes: int, seed: int = 0) -> tuple[Logits, Logits]:
    rng = np.random.default_rng(seed)
    ref = rng.normal(scale=3, size=(samples, classes)).astype(np.float32)
    drift = rng.normal(scale=rng.uniform(0, 1, size=(samples, 1)), size=ref.shape)
    return ref, (ref + drift).astype(np.float32)


def test_classification_figures_are_the_plain_formulas() -> None:
    ref, cand = drifted_pair(41, 7)
    rng = np.random.default_rng(1)
    labels = [int(label) if label else None for label in rng.integers(0, 7, size=41)]
    squares, sums, errors, kl, raw = [], [], [], [], []
    signal = noise = 0.0
    flips = right_ref = right_cand = 0
    for a, b, label in zip(ref.tolist(), cand.tolist(), labels, strict=True):
        p, q = softmax_by_hand(a), softmax_by_hand(b)
        square = [(y - x) ** 2 for x, y in zip(p, q, strict=True)]
        squares.append(sum(square) / 7)
        sums.append(sum(square))
        errors.append(max(abs(y - x) for x, y in zip(p, q, strict=True)))
        kl.append(sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)))
        drift = [y - x for x, y in zip(a, b, strict=True)]
        raw.append(max(map(abs, drift)))
        signal += sum((x - sum(a) / 7) ** 2 for x in a)
        noise += sum((x - sum(drift) / 7) ** 2 for x in drift)
        top = (a.index(max(a)), b.index(max(b)))
        flips += top[0] != top[1]
        right_ref += top[0] == label
        right_cand += top[1] == label
    ordered = sorted(squares)
    # The 99th percentile of 41 lies at place 0.99 * 40 = 39.6.
    metrics = classify(ref, cand, labels).metrics
    assert metrics["samples"] == 41
    assert metrics["non_finite"] == 0
    assert metrics["mse_mean"] == close(sum(squares) / 41)
    assert metrics["mse_p99"] == close(0.4 * ordered[39] + 0.6 * ordered[40])
    assert metrics["mse_max"] == close(ordered[40])
    assert metrics["sse_mean"] == close(sum(sums) / 41)
    assert metrics["sse_mean"] == close(7 * metrics["mse_mean"])
    assert metrics["prob_err_max"] == close(max(errors))
    assert metrics["logit_err_max"] == close(max(raw))
    assert metrics["kl_mean"] == close(sum(kl) / 41)
    assert metrics["logit_snr_db"] == close(10 * math.log10(signal / noise))
    assert 0 < flips < 41
    assert metrics["top1_mismatch_count"] == flips
    assert metrics["top1_match_rate"] == close((41 - flips) / 41)
    assert metrics["top1_mismatch_rate"] == close(flips / 41)
    known = sum(label is not None for label in labels)
    assert known < 41
    assert metrics["reference_top1"] == close(right_ref / known)
    assert metrics["candidate_top1"] == close(right_cand / known)
    assert_plain(metrics)
    assert json.loads(json.dumps(metrics)) == metrics


def test_equal_outputs_have_no_error() -> None:
    ref, _ = drifted_pair(20, 5)
    metrics = classify(ref, ref.copy()).metrics
    for name in ("mse_mean", "mse_p99", "mse_max", "sse_mean", "prob_err_max", "kl_mean"):
        assert metrics[name] == 0, name
    assert metrics["logit_snr_db"] is None  # there is no noise to compare with
    assert metrics["top1_match_rate"] == 1
    assert metrics["worst_classes"] == []
    assert [case["flipped"] for case in metrics["boundary_cases"]] == [False] * 10


def test_a_shift_of_all_logits_is_no_noise() -> None:
    ref, _ = drifted_pair(20, 5)
    metrics = classify(ref, ref + np.float32(2)).metrics
    assert metrics["mse_max"] < 1e-12
    assert metrics["logit_err_max"] == pytest.approx(2, abs=1e-5)
    assert metrics["logit_snr_db"] > 100


@pytest.mark.parametrize("classes", [2, 24, 5000])
def test_a_complete_flip_costs_two_parts_of_the_classes(classes: int) -> None:
    ref, cand = one_hot([0, 1], classes), one_hot([0, 0], classes)
    metrics = classify(ref, cand).metrics
    assert metrics["mse_max"] == close(2 / classes)
    assert metrics["mse_mean"] == close(1 / classes)
    assert metrics["sse_mean"] == close(1.0)
    assert metrics["prob_err_max"] == close(1.0)
    assert metrics["top1_mismatch_rate"] == 0.5


def test_near_ties_of_the_reference_are_counted_apart() -> None:
    # With the third class out of the race, a gap d of two logits is a margin of tanh(d / 2).
    gaps = [1e-4, 1e-3, 3.0]
    ref = np.array([[0, gap, -60] for gap in gaps], np.float32)
    cand = np.array([[gap, 0, -60] for gap in gaps], np.float32)
    columns = record(ref, cand)
    assert columns["ref_margin"] == pytest.approx([math.tanh(gap / 2) for gap in gaps], rel=1e-3)
    metrics = classification_figures(columns, 3).metrics
    assert metrics["top1_mismatch_count"] == 3
    assert metrics["top1_match_rate"] == 0
    assert metrics["top1_near_ties"] == 1
    assert metrics["top1_mismatch_rate"] == close(2 / 3)
    assert (metrics["top1_judged_flips"], metrics["top1_judged_samples"]) == (2, 3)
    # A near tie that did not flip is none of these.
    assert classify(ref, ref).metrics["top1_near_ties"] == 0


def test_the_margin_of_a_near_tie_is_at_most_the_drift_limit() -> None:
    columns = record(one_hot([0, 1], 4), one_hot([2, 3], 4))
    for margin, near_ties in ((1e-4, 2), (math.nextafter(1e-4, 1), 0), (0.0, 2)):
        columns["ref_margin"][:] = margin
        metrics = classification_figures(columns, 4).metrics
        assert metrics["top1_near_ties"] == near_ties
        assert metrics["top1_mismatch_rate"] == (2 - near_ties) / 2


def test_the_worst_classes_always_flip_or_flip_most() -> None:
    # Class c flips c + 1 times, but for class 3, which ties with class 8 and has samples that do
    # not flip, as class 5 has. Class 0 has one sample alone.
    counts = {c: 9 if c == 3 else c + 1 for c in range(12)}
    ref = [c for c, count in counts.items() for _ in range(count)]
    cand = [(c + 1) % 12 for c in ref]
    steady = [5] * 6 + [3]
    metrics = classify(one_hot(ref + steady, 13), one_hot(cand + steady, 13)).metrics
    found = [(row["class_index"], row["samples"], row["flips"]) for row in metrics["worst_classes"]]
    assert found == [
        (11, 12, 12),
        (10, 11, 11),
        (9, 10, 10),
        (8, 9, 9),
        (7, 8, 8),
        (6, 7, 7),
        (4, 5, 5),
        (2, 3, 3),
        (1, 2, 2),
        (3, 10, 9),
    ]
    assert [row["rate"] for row in metrics["worst_classes"]] == [*[1.0] * 9, 0.9]
    assert set(metrics["worst_classes"][0]) == {"class_index", "samples", "flips", "rate"}


def test_the_worst_classes_are_the_references_and_have_flipped() -> None:
    # Samples of class 2 become class 0, which loses none of its own.
    ref, cand = one_hot([2, 2, 0, 1], 4), one_hot([0, 2, 0, 1], 4)
    assert classify(ref, cand).metrics["worst_classes"] == [
        {"class_index": 2, "samples": 2, "flips": 1, "rate": 0.5}
    ]


@laws
@given(data=st.data())
def test_the_worst_classes_are_what_counting_by_hand_gives(data: st.DataObject) -> None:
    pairs = data.draw(
        st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=1, max_size=60)
    )
    ref, cand = ([pair[side] for pair in pairs] for side in (0, 1))
    rows = []
    for c in set(ref):
        flips = sum(a == c != b for a, b in pairs)
        rate = flips / ref.count(c)
        rows.append({"class_index": c, "samples": ref.count(c), "flips": flips, "rate": rate})
    always = {row["class_index"] for row in rows if row["rate"] == 1 and row["samples"] > 1}
    rows.sort(
        key=lambda row: (
            row["class_index"] not in always,
            -row["flips"],
            -row["rate"],
            row["class_index"],
        )
    )
    expected = [row for row in rows if row["flips"]][:10]
    assert classify(one_hot(ref, 15), one_hot(cand, 15)).metrics["worst_classes"] == expected


def margins(values: Sequence[float], flipped: Sequence[bool]) -> tuple[Logits, Logits]:
    """Logits of class 0 with these margins over class 1, and a candidate that flips some."""
    ref = np.array([[math.log((1 + m) / (1 - m)), 0, -60] for m in values], np.float32)
    cand = ref.copy()
    cand[list(flipped)] = ref[list(flipped)][:, [1, 0, 2]]
    return ref, cand


def test_boundary_cases_are_the_surest_flips_and_the_least_sure_of_the_others() -> None:
    values = np.random.default_rng(0).permutation(np.linspace(0.01, 0.95, 40)).tolist()
    flipped = [index % 3 == 0 for index in range(40)]
    cases = classify(*margins(values, flipped)).metrics["boundary_cases"]
    by_margin = sorted(range(40), key=lambda index: values[index])
    expected = [index for index in reversed(by_margin) if flipped[index]][:10]
    expected += [index for index in by_margin if not flipped[index]][:10]
    assert [case["sample"] for case in cases] == [f"{index:04}.png" for index in expected]
    assert [case["flipped"] for case in cases] == [True] * 10 + [False] * 10
    for case, index in zip(cases, expected, strict=True):
        assert case["reference_margin"] == pytest.approx(values[index], rel=1e-5)
        assert case["reference_class"] == 0
        assert case["candidate_class"] == (1 if flipped[index] else 0)
        error = values[index] if flipped[index] else 0
        assert case["prob_err"] == pytest.approx(error, rel=1e-5)


def test_boundary_cases_are_as_many_as_there_are() -> None:
    for flipped in ([True, False, False], [False] * 3, [True] * 3):
        found = classify(*margins([0.5, 0.2, 0.8], flipped)).metrics["boundary_cases"]
        assert [case["flipped"] for case in found] == sorted(flipped, reverse=True)
    ref, _ = drifted_pair(3, 4)
    assert classify(ref, np.full_like(ref, np.nan)).metrics["boundary_cases"] == []


def test_the_largest_errors_name_their_samples() -> None:
    probability = np.tile([0.5, 0.3, 0.2], (6, 1))
    changed = probability.copy()
    # Squared, 0.14 of one class to one other is more than 0.15 to two.
    changed[1] += [-0.14, 0.14, 0]
    changed[4] += [-0.14, 0.14, 0]  # the same: the first one is named
    changed[3] += [-0.15, 0.075, 0.075]
    ref, cand = np.log(probability).astype(np.float32), np.log(changed).astype(np.float32)

    def largest(cand: Logits) -> tuple[Any, ...]:
        metrics = classify(ref, cand).metrics
        return tuple(
            metrics[name]
            for figure in ("mse_max", "prob_err_max")
            for name in (figure, figure + "_sample")
        )

    mse, error = close(2 * 0.14**2 / 3, rel=1e-5), close(0.15, rel=1e-5)
    assert largest(cand) == (mse, "0001.png", error, "0003.png")
    # What is not finite has no error to be the largest.
    cand[1], cand[3] = np.nan, np.inf
    assert largest(cand) == (mse, "0004.png", close(0.14, rel=1e-5), "0004.png")


def test_samples_that_are_not_finite_are_counted_and_left_out() -> None:
    ref, cand = drifted_pair(12, 6)
    keep = np.ones(12, bool)
    keep[[2, 5, 9]] = False
    broken = cand.copy()
    broken[2, 1], broken[5, 0], broken[9] = np.nan, np.inf, -np.inf
    found = classify(ref, broken, [0] * 12)
    ids = [f"{index:04}.png" for index in np.flatnonzero(keep)]
    samples = [Sample(name, Path("x"), 0) for name in ids]
    alone = ClassificationRecorder().columns(samples, [], ref[keep], cand[keep])
    expected = classification_figures({**alone, "content": contents(ids)}, 6).metrics
    assert found.metrics == {
        **expected,
        "samples": 12,
        "distinct_samples": 12,
        "non_finite": 3,
    }
    assert found.metrics["top1_judged_samples"] == 9
    assert set(found.worst[:3]) == {"0002.png", "0005.png", "0009.png"}


def test_a_candidate_that_is_never_finite_has_no_figures() -> None:
    ref, _ = drifted_pair(4, 6)
    metrics = classify(ref, np.full_like(ref, np.nan), [0] * 4).metrics
    assert metrics["non_finite"] == 4
    for name in ("mse_mean", "mse_p99", "mse_max", "prob_err_max", "kl_mean", "logit_snr_db"):
        assert metrics[name] is None, name
    for name in ("top1_match_rate", "top1_mismatch_rate", "reference_top1", "candidate_top1"):
        assert metrics[name] is None, name
    for name in ("mse_max_sample", "prob_err_max_sample"):
        assert metrics[name] is None, name
    assert metrics["worst_classes"] == []


def test_the_worst_samples_come_first() -> None:
    ref = one_hot([0] * 8, 3, height=2)
    cand = ref.copy()
    for index, drift in ((3, 0.5), (6, 0.9), (1, 0.1), (4, 0.2)):
        cand[index, 1] += drift
    assert classify(ref, cand).worst == ("0006.png", "0003.png", "0004.png", "0001.png", "0000.png")


def probabilities(top: float, classes: Sequence[int], num_classes: int) -> Logits:
    """Logits whose top-1 is these classes with probability `top`, the rest spread evenly."""
    rest = (1 - top) / (num_classes - 1)
    return one_hot(classes, num_classes, height=math.log(top / rest))


@pytest.mark.parametrize("num_classes", [2, 3, 4, 24, 5000])
def test_a_trained_reference_has_signal(num_classes: int) -> None:
    labels = [index % num_classes for index in range(32)]
    ref = probabilities(0.9, labels, num_classes)
    assert classify(ref, ref, labels).no_signal is None
    # Also one that is seldom sure, or has only unlabelled or few samples to show.
    unsure = probabilities(max(0.3, 1.4 / num_classes), labels, num_classes)
    assert classify(unsure, unsure, labels).no_signal is None
    assert classify(ref, ref).no_signal is None


def test_a_constant_top1_over_several_classes_is_no_signal() -> None:
    ref = probabilities(0.9, [3] * 16, 8)
    reason = classify(ref, ref, [index % 8 for index in range(16)]).no_signal
    assert reason is not None
    assert "names one class for samples of 8 classes" in reason
    # Rightly so where there is one class only.
    assert classify(ref, ref, [3] * 16).no_signal is None


@pytest.mark.parametrize(
    ("num_classes", "limit"), [(2, 0.55), (4, 0.325), (24, 2 / 24), (5000, 4e-4)]
)
def test_near_uniform_probabilities_are_no_signal(num_classes: int, limit: float) -> None:
    labels = [index % num_classes for index in range(32)]
    chance = 1 / num_classes
    for top in (chance * 1.001, chance + (limit - chance) * 0.99):
        ref = probabilities(top, labels, num_classes)
        reason = classify(ref, ref, labels).no_signal
        assert reason is not None
        assert "near uniform" in reason
    ref = probabilities(chance + (limit - chance) * 1.01, labels, num_classes)
    assert classify(ref, ref, labels).no_signal is None


def test_the_median_decides_whether_probabilities_are_near_uniform() -> None:
    labels = [index % 24 for index in range(31)]
    flat, sure = probabilities(0.05, labels, 24), probabilities(0.9, labels, 24)
    for uniform, expected in ((15, None), (16, "near uniform")):
        ref = np.concatenate([flat[:uniform], sure[uniform:]])
        reason = classify(ref, ref, labels).no_signal
        assert (reason is None) if expected is None else (reason is not None and expected in reason)


def test_no_better_than_guessing_is_no_signal() -> None:
    truth = [index % 24 for index in range(48)]
    for right in (0, 1, 2, 4, 5, 48):
        # Sure of itself, and wrong: the class map or the normalisation is another's.
        named = [label if index < right else (label + 1) % 24 for index, label in enumerate(truth)]
        ref = probabilities(0.9, named, 24)
        reason = classify(ref, ref, truth).no_signal
        tail = sum(
            comb(48, k) * Fraction(1, 24) ** k * Fraction(23, 24) ** (48 - k)
            for k in range(right, 49)
        )
        assert (reason is not None) is (tail > Fraction(5, 100)), right
        if reason is not None:
            assert f"right on {right} of 48 samples, no better than guessing among 24" in reason


@pytest.mark.parametrize(("classes", "count"), [(10, 1), (2, 4), (3, 2)])
def test_a_reference_that_is_right_on_all_of_a_few_is_no_guess(classes: int, count: int) -> None:
    truth = [index % classes for index in range(count)]
    ref = probabilities(0.9, truth, classes)
    found = classify(ref, ref, truth)
    assert found.no_signal is None
    assert found.metrics["reference_top1_by_chance"] == close(classes**-count)


def test_few_samples_are_said_to_be_few() -> None:
    def reason(right: int, count: int) -> str:
        truth = [index % 2 for index in range(count)]
        named = [label if index < right else 1 - label for index, label in enumerate(truth)]
        ref = probabilities(0.9, named, 2)
        found = classify(ref, ref, truth).no_signal
        assert found is not None and "no better than guessing" in found
        return found

    assert "too few to tell, verify more samples" in reason(3, 4)
    assert "too few" not in reason(200, 400)


def test_copies_prove_no_more_than_one_image_does() -> None:
    ref, truth = probabilities(0.9, [0, 0, 0, 1, 1, 2], 8), [0, 0, 0, 1, 1, 2]
    cand = ref.copy()
    cand[[1, 2, 5]] = cand[[3, 3, 3]]
    files = contents(["a", "a", "a", "b", "b", "c"])
    metrics = classification_figures({**record(ref, cand, truth), "content": files}, 8).metrics
    assert (metrics["samples"], metrics["distinct_samples"]) == (6, 3)
    assert (metrics["top1_judged_flips"], metrics["top1_judged_samples"]) == (3, 6)
    assert (metrics["top1_distinct_flips"], metrics["top1_distinct_samples"]) == (2, 3)
    assert metrics["labelled_distinct_samples"] == 3
    assert metrics["label_conflicts"] == 0
    # So many copies of one image are no evidence of training.
    assert metrics["reference_top1_by_chance"] == close(8**-3)
    found = certified(metrics, Profiles().strict)["top1_mismatch_rate"]
    assert (found.failures, found.trials) == (2, 3)
    # However they are cut, copies are found.
    parts = [record(ref[:2], cand[:2], truth[:2]), record(ref[2:], cand[2:], truth[2:], start=2)]
    cut = [
        {**part, "content": files[at:][: len(part["id"])]}
        for part, at in zip(parts, (0, 2), strict=True)
    ]
    with in_files(cut) as records:
        assert classification_figures(records, 8).metrics == metrics


def test_an_image_under_two_classes_is_named() -> None:
    labels = [0, 1, 0, 2, None, 1, 3]
    ref = probabilities(0.9, [0, 1, 0, 2, 3, 1, 3], 8)
    files = contents(["a", "b", "a", "a", "b", "b", "c"])
    metrics = classification_figures({**record(ref, ref, labels), "content": files}, 8).metrics
    assert metrics["label_conflicts"] == 1
    assert metrics["label_conflict_samples"] == [["0000.png", "0003.png"]]
    assert_plain(metrics)


def test_a_reference_that_is_not_finite_is_no_signal() -> None:
    ref = probabilities(0.9, [0, 1, 2], 8)
    broken = ref.copy()
    broken[1, 1] = np.nan
    found = classify(broken, ref, [0, 1, 2])
    assert found.no_signal == "the reference's output is not finite for 1 samples"
    assert found.metrics["non_finite"] == 0


def test_samples_chosen_for_being_hard_say_nothing_of_the_references_training() -> None:
    labels = [index % 8 for index in range(16)]
    wrong = [(label + 1) % 8 for label in labels]
    for ref in (
        probabilities(0.13, labels, 8),  # near uniform
        probabilities(0.9, wrong, 8),  # no better than guessing
        probabilities(0.9, [3] * 16, 8),  # one class for all
    ):
        columns = record(ref, ref, labels)
        plain = classification_figures(columns, 8)
        hard = classification_figures(columns, 8, population=False)
        assert plain.no_signal is not None
        assert hard.no_signal is None
        assert (hard.metrics, hard.worst) == (plain.metrics, plain.worst)
    # What is not finite cannot be compared, whatever it was chosen for.
    ref[2, 0] = np.nan
    found = classification_figures(record(ref, ref, labels), 8, population=False)
    assert found.no_signal == "the reference's output is not finite for 1 samples"


@settings(max_examples=250, deadline=None, database=None)
@given(data=st.data(), trials=st.integers(1, 200), classes=st.integers(2, 600))
def test_binomial_tail_is_the_exact_one(data: st.DataObject, trials: int, classes: int) -> None:
    successes = data.draw(st.integers(0, trials))
    exact = Fraction(
        sum(comb(trials, k) * (classes - 1) ** (trials - k) for k in range(successes, trials + 1)),
        classes**trials,
    )
    found = binomial_tail(successes, trials, 1 / classes)
    assert found == pytest.approx(float(exact), rel=1e-9, abs=1e-290)


@pytest.mark.parametrize("trials", [10**5, 10**6])
def test_binomial_tail_of_many_samples(trials: int) -> None:
    # The normal approximation is good to a few per cent this far out.
    mean, sigma = trials / 24, math.sqrt(trials * 23) / 24
    for z in (1.0, 2.0):
        successes = math.ceil(mean + z * sigma)
        expected = math.erfc((successes - 0.5 - mean) / sigma / math.sqrt(2)) / 2
        assert binomial_tail(successes, trials, 1 / 24) == pytest.approx(expected, rel=0.05)
    assert binomial_tail(trials, trials, 1 / 24) == 0.0


def test_repeating_every_sample_changes_no_verdict() -> None:
    labels = [index % 24 for index in range(24)]
    ref = probabilities(0.9, labels, 24)
    scaled = ref * np.float32(1.001)
    flipped = ref.copy()
    flipped[:6] = probabilities(0.9, [7] * 6, 24)
    names = set()
    for cand in (ref, scaled, flipped, ref * np.float32(0.5)):
        for profile in ("strict", "practical"):
            verdicts = {
                judge(
                    classify(*(np.tile(x, (n, 1)) for x in (ref, cand)), labels * n),
                    Profiles(),
                    profile,
                ).name
                for n in (1, 3, 20)
            }
            assert len(verdicts) == 1
            names |= verdicts
    assert names == {"equivalent", "within_tolerance", "breach"}


@laws
@given(edges=st.sets(st.integers(1, 40)))
def test_classification_figures_do_not_depend_on_the_shards(edges: set[int]) -> None:
    ref, cand = drifted_pair(41, 7)
    cand[7, 0] = np.nan
    labels = [index % 7 for index in range(41)]
    parts = [
        record(ref[a:b], cand[a:b], labels[a:b], start=a)
        for a, b in pairwise(sorted({0, *edges, 41}))
    ]
    expected = classify(ref, cand, labels)
    assert len(expected.metrics["boundary_cases"]) > 10
    assert classification_figures(concatenate(parts), 7) == expected
    with in_files(parts) as records:
        assert classification_figures(records, 7) == expected


def test_figures_of_many_samples_are_computed_in_the_memory_of_a_few_columns() -> None:
    samples, parts = 20_000, 10
    ref, cand = drifted_pair(samples, 7)
    part = record(ref, cand, [index % 7 for index in range(samples)])
    with in_files([part] * parts) as records:
        whole = sum(records[name].nbytes for name in records)
        tracemalloc.start()
        try:
            found = classification_figures(records, 7)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert found.metrics["samples"] == samples * parts
    # A column of floats is 1/17 of it, one of ids 1/4.
    assert most < whole * 2 / 3


def test_means_are_exactly_rounded_in_any_order() -> None:
    values = np.array([1e16, 1.0, -1e16, 1.0] * 3)
    for order in (values, values[::-1], np.sort(values)):
        assert mean(order) == 0.5
        assert total(order) == 6
    assert mean(np.array([])) is None
    assert total(np.array([])) == 0
    # Also of more values than are summed in one piece, and where a float32 sum would stand still.
    many = np.tile(np.array([1e8, 1.0, -1e8], np.float32), 100_000)
    assert total(many) == 100_000
    # Wherever one piece ends and the next one begins.
    apart = np.zeros(1_000_003)
    apart[[0, len(apart) // 2, -1]] = 1e16, 1.0, -1e16
    assert total(apart) == 1
    assert mean(many) == pytest.approx(1 / 3, rel=1e-15)


def test_rows_are_taken_from_memory_as_from_files() -> None:
    ref, cand = drifted_pair(9, 4)
    parts = [record(ref[a:b], cand[a:b], start=a) for a, b in ((0, 2), (2, 3), (3, 9))]
    whole = concatenate(parts)
    rows = np.array([8, 0, 2, 2])
    with in_files(parts) as records:
        for columns in (whole, records):
            assert take(columns, "id", rows) == ["0008.png", "0000.png", "0002.png", "0002.png"]
            for name in ("mse", "ref_top1", "ref_finite"):
                assert take(columns, name, rows) == whole[name][rows].tolist()
            assert take(columns, "mse", np.array([], np.int64)) == []
            drift = np.array([0.0, 3.0, 1.0, 3.0, 0.5, np.inf, 1.0, 3.0, 1.0])
            ids = [f"000{index}.png" for index in (5, 1, 3, 7, 2, 6, 8, 4, 0)]
            # Those that tie come in their order.
            assert worst_samples(columns, drift) == tuple(ids[:5])
            assert worst_samples(columns, drift, 2) == tuple(ids[:2])
            assert worst_samples(columns, drift, 20) == tuple(ids)


@laws
@given(
    values=st.lists(st.floats(0, 1e6), min_size=1, max_size=50),
    q=st.sampled_from([0.5, 0.95, 0.99]),
)
def test_quantiles_interpolate_between_neighbours(values: list[float], q: float) -> None:
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    expected = low + (high - low) * (place - math.floor(place))
    assert quantile(np.array(values), q) == pytest.approx(expected, rel=1e-9, abs=1e-9)


# --------------------------------------------------------------------------------- detection

STRIDES = (8, 16, 32)
SIDE = 64
FIRST = {8: 0, 16: 64, 32: 80}  # 8 x 8, 4 x 4 and 2 x 2 anchors
ANCHORS = 84
NMS = Nms()
SAME = Geometry(ratio=1.0, left=0, top=0, width=SIDE, height=SIDE)

Rows = NDArray[np.float32]
Found = tuple[int, Sequence[float]]


def scene(*boxes: Found) -> Rows:
    """[A,7] of an image: (anchor, (x1, y1, x2, y2, conf, class_id)) and quiet anchors elsewhere."""
    rows = np.tile(np.array([1, 1, 2, 2, 0.01, 0, 0.5], np.float32), (ANCHORS, 1))
    for anchor, values in boxes:
        rows[anchor, :6] = values
    return rows


def at(stride: int, place: int = 0) -> int:
    return FIRST[stride] + place


Truth = Mapping[str, tuple[Box, ...] | None]
"""Labelled boxes by sample; one that it lacks has no labels."""

SEED = 5


def record_scenes(
    ref: Sequence[Rows],
    cand: Sequence[Rows],
    truth: Truth | None = None,
    geometry: Geometry = SAME,
    start: int = 0,
) -> Columns:
    ids = [f"{start + index:02}.png" for index in range(len(ref))]
    samples = [Sample(name, Path("x"), None, (truth or {}).get(name)) for name in ids]
    recorder = DetectionRecorder(STRIDES, (SIDE, SIDE), NMS)
    columns = recorder.columns(
        samples, [geometry] * len(ref), np.stack(ref), np.stack(cand)[..., :6].copy()
    )
    return {**columns, "content": contents(ids)}


def detect(
    ref: Sequence[Rows],
    cand: Sequence[Rows],
    truth: Truth | None = None,
    geometry: Geometry = SAME,
    seed: int = SEED,
) -> Figures:
    columns = record_scenes(ref, cand, truth, geometry)
    return detection_figures(columns, STRIDES, NMS.max_detections, seed)


def label(x1: float, y1: float, x2: float, y2: float, class_id: int = 0, side: int = SIDE) -> Box:
    return Box(
        class_id, (x1 + x2) / 2 / side, (y1 + y2) / 2 / side, (x2 - x1) / side, (y2 - y1) / side
    )


A, B, C = (4, 4, 24, 24), (30, 4, 60, 30), (4, 32, 60, 62)
REF = [
    scene((at(8, 3), (*A, 0.9, 0)), (at(16, 2), (*B, 0.8, 0))),
    scene((at(32, 3), (*C, 0.7, 0))),
    scene(),
]
TRUTH: Truth = {"00.png": (label(*A), label(*B)), "01.png": (label(*C),), "02.png": ()}


def changed(change: Callable[[list[Rows]], None]) -> list[Rows]:
    cand = [rows.copy() for rows in REF]
    change(cand)
    return cand


def test_a_perfect_match() -> None:
    found = detect(REF, REF, TRUTH)
    assert found.no_signal is None
    metrics = found.metrics
    assert metrics["samples"] == 3
    zero = [
        *("non_finite", "raw_box_err_px", "raw_score_err", "class_flips", "box_class_flips"),
        *("reference_only", "candidate_only", "unmatched_rate"),
        *("reference_only_rate", "candidate_only_rate"),
        *("iou_delta_p50", "iou_delta_p95", "iou_delta_max"),
        *("conf_delta_mean", "conf_delta_max", "map_0_5_delta", "map_0_5_0_95_delta"),
        *("map_0_5_delta_upper", "map_0_5_0_95_delta_upper"),
    ]
    assert {name: metrics[name] for name in zero} == dict.fromkeys(zero, 0)
    counts = ("reference_boxes", "candidate_boxes", "matched_boxes")
    assert {name: metrics[name] for name in counts} == dict.fromkeys(counts, 3)
    for side in ("reference", "candidate"):
        assert metrics[f"{side}_map_0_5"] == close(1.0)
        assert metrics[f"{side}_map_0_5_0_95"] == close(1.0)
    assert metrics["map_reason"] is None
    assert (metrics["map_images"], metrics["map_resamples"]) == (3, 1000)
    assert [row["stride"] for row in metrics["per_stride"]] == [8, 16, 32]
    assert [row["reference_boxes"] for row in metrics["per_stride"]] == [1, 1, 1]
    assert_plain(metrics)


def test_scores_that_noise_reorders_are_no_boxes_though_the_threshold_is_0() -> None:
    """Confidences near 1e-7 of overlapping boxes: which suppresses which differs in two healthy
    engines. The boxes above them are compared as ever."""
    rng = np.random.default_rng(0)
    ref = REF[0].copy()
    quiet = ref[:, 4] < 0.5
    corner = rng.uniform(0, 40, (quiet.sum(), 2)).astype(np.float32)
    ref[quiet, :4] = np.hstack([corner, corner + 20])
    ref[quiet, 4] = rng.uniform(1e-7, 2e-7, quiet.sum())
    cand = ref.copy()
    cand[quiet, 4] = rng.uniform(1e-7, 2e-7, quiet.sum())
    recorder = DetectionRecorder(STRIDES, (SIDE, SIDE), replace(NMS, conf_threshold=0.0))
    for lost, unmatched in ((0, 0), (1, 1)):
        cand[at(8, 3), 4] *= 1 - lost
        samples = [Sample("00.png", Path("x"), None, TRUTH["00.png"])]
        columns = recorder.columns(samples, [SAME], ref[None], cand[None, :, :6])
        columns = {**columns, "content": contents(["00.png"])}
        metrics = detection_figures(columns, STRIDES, NMS.max_detections, SEED).metrics
        assert metrics["reference_only"] + metrics["candidate_only"] == unmatched


def test_extra_boxes_of_either_side_count() -> None:
    def extra(cand: list[Rows]) -> None:
        cand[2][at(16, 5)] = (10, 10, 30, 30, 0.6, 0, 0.5)

    more = changed(extra)
    metrics = detect(REF, more, TRUTH).metrics
    assert (metrics["reference_only"], metrics["candidate_only"]) == (0, 1)
    assert (metrics["matched_boxes"], metrics["candidate_boxes"]) == (3, 4)
    assert metrics["unmatched_rate"] == close(1 / 7)
    assert (metrics["reference_only_rate"], metrics["candidate_only_rate"]) == (0, 1 / 4)
    metrics = detect(more, REF, TRUTH).metrics
    assert (metrics["reference_only"], metrics["candidate_only"]) == (1, 0)
    assert metrics["unmatched_rate"] == close(1 / 7)
    assert (metrics["reference_only_rate"], metrics["candidate_only_rate"]) == (1 / 4, 0)
    # A side without any box has no rate of its own.
    metrics = detect(REF, [scene()] * 3, TRUTH).metrics
    assert (metrics["reference_only_rate"], metrics["candidate_only_rate"]) == (1, None)
    assert metrics["unmatched_rate"] == 1


def test_a_box_of_another_class_or_place_lacks_on_both_sides() -> None:
    def other_class(cand: list[Rows]) -> None:
        cand[1][at(32, 3), 5] = 1

    def other_place(cand: list[Rows]) -> None:
        cand[1][at(32, 3), :4] = (4, 2, 60, 20)

    for change, flips in ((other_class, 1), (other_place, 0)):
        metrics = detect(REF, changed(change), TRUTH).metrics
        assert (metrics["reference_only"], metrics["candidate_only"]) == (1, 1)
        assert metrics["unmatched_rate"] == close(2 / 6)
        assert metrics["reference_only_rate"] == metrics["candidate_only_rate"] == close(1 / 3)
        assert metrics["matched_boxes"] == 2
        # Only what both sides found in one place has changed its class.
        assert metrics["box_class_flips"] == flips


def test_what_the_recorder_keeps_of_matches_and_labels() -> None:
    def change(cand: list[Rows]) -> None:
        cand[0][at(8, 3), :5] = (6, 4, 26, 24, 0.8)  # 18 of 22 px
        cand[1][at(32, 3), 5] = 1

    truth = {"00.png": (label(*A, class_id=2), label(*B)), "01.png": ()}
    columns = record_scenes(REF, changed(change), truth)
    first, second, third = unragged(columns, "pairs")
    assert first[:, 0] == pytest.approx([4 / 22, 0], abs=1e-6)
    assert first[:, 1] == pytest.approx([0.1, 0], abs=1e-6)
    assert (len(second), len(third)) == (0, 0)
    assert columns["pairs"].dtype == np.float64
    assert columns["box_class_flips"].tolist() == [0, 1, 0]
    # A scene without pills is labelled, one without labels is not.
    assert columns["labelled"].tolist() == [True, True, False]
    boxes, *none = unragged(columns, "truth")
    assert boxes == pytest.approx(np.array([[*A, 2], [*B, 0]]))
    assert list(map(len, none)) == [0, 0]


def test_iou_deltas_are_one_minus_iou() -> None:
    # A box of 20 px moved by s sideways overlaps its old place by (20 - s) / (20 + s).
    shifts = [0, 0, 1, 2, 1, 0, 5, 3]
    box = (20, 20, 40, 40)
    ref = [scene((at(16), (*box, 0.9, 0))) for _ in shifts]
    cand = [scene((at(16), (20 + s, 20, 40 + s, 40, 0.9 - s / 100, 0))) for s in shifts]
    deltas = sorted(1 - (20 - s) / (20 + s) for s in shifts)
    metrics = detect(ref, cand).metrics
    # The 95th percentile of eight lies at place 0.95 * 7 = 6.65.
    assert metrics["iou_delta_p95"] == close(deltas[6] + 0.65 * (deltas[7] - deltas[6]))
    assert metrics["iou_delta_p50"] == close((deltas[3] + deltas[4]) / 2)
    assert metrics["iou_delta_max"] == close(deltas[7])
    assert metrics["conf_delta_max"] == pytest.approx(0.05, abs=1e-6)
    assert metrics["conf_delta_mean"] == pytest.approx(0.12 / 8, abs=1e-6)


def test_drift_is_told_by_stride() -> None:
    def drift(cand: list[Rows]) -> None:
        cand[0][at(8, 63), 2] += 0.25  # an anchor that no box comes from
        cand[2][at(8, 0), 0] -= 0.125
        cand[1][at(32, 0), 4] += 0.0625
        cand[1][at(16, 0), 3] -= 2

    metrics = detect(REF, changed(drift), TRUTH).metrics
    rows = {row["stride"]: row for row in metrics["per_stride"]}
    assert {s: row["raw_box_err_px"] for s, row in rows.items()} == {8: 0.25, 16: 2.0, 32: 0.0}
    assert [rows[s]["raw_score_err"] for s in STRIDES] == [0, 0, pytest.approx(0.0625, abs=1e-7)]
    assert metrics["raw_box_err_px"] == 2.0
    assert metrics["raw_score_err"] == rows[32]["raw_score_err"]
    assert metrics["matched_boxes"] == 3


@pytest.mark.parametrize(
    ("stride", "place"), [(8, 0), (8, 63), (16, 0), (16, 15), (32, 0), (32, 3)]
)
def test_the_first_and_last_anchor_of_a_stride_are_its_own(stride: int, place: int) -> None:
    ref = scene((at(stride, place), (*A, 0.9, 0)))
    cand = ref.copy()
    cand[at(stride, place), 0] += 1
    rows = detect([ref], [cand]).metrics["per_stride"]
    for row in rows:
        here = row["stride"] == stride
        assert row["raw_box_err_px"] == (1.0 if here else 0.0)
        assert row["reference_boxes"] == (1 if here else 0)


def test_a_changed_class_counts_unless_it_is_a_near_tie() -> None:
    ref = scene()
    ref[:4, 6] = (0.0, 1e-4, 1.1e-4, np.inf)
    cand = ref.copy()
    cand[:4, 5] = 1
    metrics = detect([ref], [cand]).metrics
    # Of anchors, none of which is a box.
    assert (metrics["class_flips"], metrics["box_class_flips"]) == (2, 0)
    assert detect([ref], [ref]).metrics["class_flips"] == 0


def test_the_largest_gap_of_a_changed_class_is_of_its_stride() -> None:
    ref = scene()
    ref[at(8, 3), 6], ref[at(8, 4), 6], ref[at(32, 1), 6] = 0.25, 0.5, 0.125
    cand = ref.copy()
    cand[at(8, 3), 5] = cand[at(32, 1), 5] = 1
    metrics = detect([ref, ref], [ref, cand]).metrics
    gaps = {row["stride"]: row["class_flip_gap"] for row in metrics["per_stride"]}
    assert gaps == {8: 0.25, 16: 0, 32: 0.125}
    assert metrics["class_flip_gap"] == 0.25
    assert detect([ref], [ref]).metrics["class_flip_gap"] == 0


def test_a_lost_box_costs_map() -> None:
    def lose(cand: list[Rows]) -> None:
        cand[1][at(32, 3), 4] = 0.1

    metrics = detect(REF, changed(lose), TRUTH).metrics
    assert metrics["reference_map_0_5"] == close(1.0)
    # Two of three boxes are found at full precision: recall points 0 to 0.66 of 101.
    assert metrics["candidate_map_0_5"] == close(67 / 101)
    assert metrics["map_0_5_delta"] == close(67 / 101 - 1)
    assert metrics["map_0_5_0_95_delta"] == close(67 / 101 - 1)
    # The other way round it is a gain.
    gain = detect(changed(lose), REF, TRUTH).metrics
    assert gain["map_0_5_delta"] == close(1 - 67 / 101)
    for name in ("map_0_5_delta_upper", "map_0_5_0_95_delta_upper"):
        # Of three images, it is within the draws that hold most of the one that was lost.
        assert 1 - 67 / 101 < metrics[name] <= 1
        assert gain[name] == 0


def test_the_bounds_of_map_are_those_of_resampled_labelled_images() -> None:
    rng = np.random.default_rng(2)
    ref = REF * 8
    cand = [rows.copy() for rows in ref]
    for rows in cand:
        rows[:, :4] += rng.normal(scale=1.5, size=(ANCHORS, 4)).astype(np.float32)
        rows[:, 4] *= rng.uniform(0.3, 1)
    names = [f"{index:02}.png" for index in range(24)]
    truth = dict(zip(names, list(TRUTH.values()) * 8, strict=True))
    truth |= {name: None for name in names[18:]}
    metrics = detect(ref, cand, truth).metrics
    assert metrics["map_images"] == 18
    columns = record_scenes(ref, cand, truth)
    reference, candidate = (
        evaluate(
            unragged(columns, "truth")[:18],
            unragged(columns, f"{side}_boxes")[:18],
            max_detections=NMS.max_detections,
        )
        for side in ("ref", "cand")
    )
    assert reference is not None and candidate is not None
    deltas = bootstrap_map_deltas(reference, candidate, seed=SEED)
    found = (metrics["map_0_5_delta_upper"], metrics["map_0_5_0_95_delta_upper"])
    assert found == upper_bounds(deltas)
    assert metrics["map_resamples"] == len(deltas)
    assert found[1] > abs(metrics["map_0_5_0_95_delta"]) > 0
    assert detect(ref, cand, truth).metrics == metrics
    other = detect(ref, cand, truth, seed=SEED + 1).metrics
    assert other["map_0_5_0_95_delta_upper"] != found[1]
    assert other["map_0_5_0_95_delta"] == metrics["map_0_5_0_95_delta"]


def test_boxes_are_compared_in_pixels_of_the_photo() -> None:
    # A photo of 128 x 64 goes into 64 x 64 at half its size, 16 px below the top.
    _, geometry = letterbox_tensor(np.zeros((64, 128, 3), np.uint8), LetterboxTransform(64, 64))
    ref = [scene((at(16), (10, 21, 40, 41, 0.9, 0)))]
    truth = {"00.png": (Box(0, 50 / 128, 30 / 64, 60 / 128, 40 / 64),)}
    columns = record_scenes(ref, ref, truth, geometry)
    assert columns["ref_boxes"][0, :4].tolist() == [20, 10, 80, 50]
    assert columns["truth"].tolist() == [[20, 10, 80, 50, 0]]
    assert detect(ref, ref, truth, geometry).metrics["reference_map_0_5_0_95"] == close(1.0)


MAP_NAMES = [
    *(
        f"{side}_{name}"
        for side in ("reference", "candidate")
        for name in ("map_0_5", "map_0_5_0_95")
    ),
    *("map_0_5_delta", "map_0_5_0_95_delta"),
    *("map_0_5_delta_upper", "map_0_5_0_95_delta_upper"),
]


@pytest.mark.parametrize(
    ("truth", "reason"),
    [
        ({}, "no labels"),
        (dict.fromkeys(TRUTH), "no labels"),
        (dict.fromkeys(TRUTH, ()), "no labelled box in these images"),
        ({"00.png": None, "01.png": ()}, "no labelled box in these images"),
    ],
)
def test_without_labelled_boxes_map_is_null(truth: Truth, reason: str) -> None:
    found = detect(REF, REF, truth)
    assert {name: found.metrics[name] for name in MAP_NAMES} == dict.fromkeys(MAP_NAMES)
    assert found.metrics["map_reason"] == reason
    assert (found.metrics["map_images"], found.metrics["map_resamples"]) == (0, 0)
    assert found.no_signal is None  # the engines still have boxes to compare
    assert found.metrics["matched_boxes"] == 3


def test_images_without_labels_do_not_count_in_map() -> None:
    truth = {**TRUTH, "01.png": None}
    wrong = [REF[0], scene((at(32, 3), (50, 2, 60, 10, 0.95, 0))), REF[2]]
    metrics = detect(wrong, wrong, truth).metrics
    assert metrics["reference_map_0_5"] == close(1.0)
    assert metrics["map_images"] == 2
    assert detect(wrong, wrong, TRUTH).metrics["reference_map_0_5"] < 0.8


def test_a_reference_that_finds_nothing_labelled_is_no_signal() -> None:
    elsewhere = [scene((at(8), (50, 50, 60, 60, 0.9, 0))), scene(), scene()]
    for ref in (elsewhere, [scene()] * 3):
        reason = detect(ref, REF, TRUTH).no_signal
        assert reason is not None
        assert reason.startswith("the reference's mAP@0.5 on labelled images is 0")
        assert "2 with boxes are too few to tell, verify more images" in reason
    # What the candidate finds plays no part.
    assert detect(REF, [scene()] * 3, TRUTH).no_signal is None


def test_boxes_of_copies_prove_no_more_than_those_of_one_image() -> None:
    def lose(cand: list[Rows]) -> None:
        cand[1][at(32, 3), 4] = 0.1

    ref, cand = [*REF, REF[1], REF[1]], [*changed(lose), *[changed(lose)[1]] * 2]
    truth = {**TRUTH, "03.png": TRUTH["01.png"], "04.png": (label(*A),)}
    files = contents(["a", "b", "c", "b", "b"])
    columns = {**record_scenes(ref, cand, truth), "content": files}
    metrics = detection_figures(columns, STRIDES, NMS.max_detections, SEED).metrics
    assert (metrics["distinct_samples"], metrics["map_distinct_images"]) == (3, 3)
    assert (metrics["reference_only"], metrics["distinct_unmatched"]) == (3, 1)
    assert metrics["distinct_boxes"] == 3 + 2
    found = certified(metrics, Profiles().strict)
    assert (found["unmatched_rate"].failures, found["unmatched_rate"].trials) == (1, 5)
    assert found["map_0_5_delta"].trials == 3
    # Copies are resampled together: of one image, all draws are alike.
    same = {**columns, "content": contents(["a"] * 5)}
    alone = detection_figures(same, STRIDES, NMS.max_detections, SEED).metrics
    assert alone["map_0_5_0_95_delta_upper"] == close(-alone["map_0_5_0_95_delta"])
    assert metrics["map_0_5_0_95_delta_upper"] > -metrics["map_0_5_0_95_delta"]
    # One of its copies has other labels.
    assert metrics["label_conflicts"] == 1
    assert metrics["label_conflict_samples"] == [["01.png", "04.png"]]
    assert_plain(metrics)


def test_images_whose_boxes_reach_the_limit_are_counted() -> None:
    columns = record_scenes(REF, REF, TRUTH)
    for limit, images, above in ((3, 0, 0), (2, 1, 0), (1, 2, 1)):
        metrics = detection_figures(columns, STRIDES, limit, SEED).metrics
        assert metrics["images_at_max_detections"] == images
        assert metrics["labels_above_max_detections"] == above


def test_a_reference_without_any_box_is_no_signal() -> None:
    for truth, why in (
        ({}, ""),
        (dict.fromkeys(TRUTH, ()), " (no labelled box in these images: verify some with boxes)"),
    ):
        found = detect([scene()] * 3, REF, truth)
        nothing = "the reference finds no box in any image: nothing to compare"
        assert found.no_signal == nothing + why
    metrics = detect([scene()] * 3, [scene()] * 3, {}).metrics
    for name in ("unmatched_rate", "iou_delta_p95", "iou_delta_max", "conf_delta_mean"):
        assert metrics[name] is None, name
    for name in ("reference_only_rate", "candidate_only_rate"):
        assert metrics[name] is None, name


def test_scenes_that_are_not_finite_are_counted_and_left_out_of_drift() -> None:
    def broken(cand: list[Rows]) -> None:
        cand[1][at(8, 1), 0] = np.nan
        cand[2][at(16, 1), 4] = np.inf
        cand[0][at(8, 1), 0] += 0.5

    cand = changed(broken)
    found = detect(REF, cand, TRUTH)
    assert found.metrics["non_finite"] == 2
    assert found.metrics["raw_box_err_px"] == 0.5
    assert found.metrics["raw_score_err"] == 0
    assert found.worst == ("01.png", "02.png", "00.png")
    found = detect(cand, REF, TRUTH)
    assert found.no_signal == "the reference's output is not finite for 2 samples"
    assert found.metrics["non_finite"] == 0
    everything = [np.full_like(rows, np.nan) for rows in REF]
    metrics = detect(REF, everything, TRUTH).metrics
    assert metrics["non_finite"] == 3
    assert metrics["raw_box_err_px"] is None
    assert metrics["per_stride"][0]["raw_score_err"] is None
    assert metrics["unmatched_rate"] == 1


def test_the_worst_scenes_are_those_of_box_or_score_drift() -> None:
    ref = [scene() for _ in range(4)]
    cand = [rows.copy() for rows in ref]
    cand[3][5, 4] += 0.01  # 100 times the noise of a score
    cand[1][5, 0] += 0.5  # 10 times that of a box
    assert detect(ref, cand).worst == ("03.png", "01.png", "00.png", "02.png")


@laws
@given(edges=st.sets(st.integers(1, 11)))
def test_detection_figures_do_not_depend_on_the_shards(edges: set[int]) -> None:
    rng = np.random.default_rng(3)
    ref = [*REF, REF[0]] * 3
    cand = [(rows + rng.normal(scale=0.2, size=rows.shape)).astype(np.float32) for rows in ref]
    for rows in cand:
        rows[:, 5] = 0
    cand[4][3, 1] = np.nan
    truth = {f"{index:02}.png": boxes for index, boxes in enumerate([*TRUTH.values(), None] * 3)}
    truth["03.png"] = TRUTH["00.png"]
    parts = [
        record_scenes(ref[a:b], cand[a:b], truth, start=a)
        for a, b in pairwise(sorted({0, *edges, 12}))
    ]
    expected = detect(ref, cand, truth)
    assert expected.metrics["candidate_only"] > 0
    assert expected.metrics["map_0_5_0_95_delta_upper"] > 0
    found = detection_figures(concatenate(parts), STRIDES, NMS.max_detections, SEED)
    assert found == expected
    with in_files(parts) as records:
        found = detection_figures(records, STRIDES, NMS.max_detections, SEED)
    assert found == expected


# --------------------------------------------------- the verdict of a cell, from its shards' files

CLASSES = 24


def shard_of_flips(index: int, samples: int, flips: int) -> Columns:
    """A shard whose reference is trained and whose candidate flips some of its samples."""
    labels = [(index * samples + number) % CLASSES for number in range(samples)]
    ref = one_hot(labels, CLASSES, height=7.0)
    ref[np.arange(samples), [(label + 1) % CLASSES for label in labels]] = 6.9
    cand = ref.copy()
    for row in range(flips):
        first, second = labels[row], (labels[row] + 1) % CLASSES
        cand[row, [first, second]] = ref[row, [second, first]]
    return record(ref, cand, labels, start=index * samples)


def judged(parts: Sequence[Columns], profile: str) -> tuple[str, dict[str, Any]]:
    with in_files(parts) as records:
        found = classification_figures(records, CLASSES)
    assert found.no_signal is None
    return judge(found, Profiles(), profile).name, found.metrics


@pytest.mark.parametrize("place", [0, 47])
def test_flips_that_cluster_in_one_shard_are_judged_on_the_whole_cell(place: int) -> None:
    """Half of one shard of 64: 0.78 % of a cell of 64 shards, 1.04 % of one of 48."""
    for shards, expected in ((64, "within_tolerance"), (48, "breach")):
        at_place = min(place, shards - 1)
        parts = [shard_of_flips(index, 64, 32 * (index == at_place)) for index in range(shards)]
        name, metrics = judged(parts, "practical")
        assert (metrics["top1_judged_flips"], metrics["top1_judged_samples"]) == (32, 64 * shards)
        assert metrics["top1_mismatch_rate"] == 32 / (64 * shards)
        assert name == expected
        # The same flips, spread over the shards, are the same cell.
        spread = [shard_of_flips(index, 64, index < 32) for index in range(shards)]
        assert judged(spread, "practical")[0] == expected
    # By itself that shard is far outside.
    assert judged([shard_of_flips(0, 64, 32)], "practical")[0] == "breach"


def test_a_flip_in_a_shard_is_no_breach_where_the_cell_is_within_its_rate() -> None:
    parts = [shard_of_flips(index, 32, index == 3) for index in range(10)]
    name, metrics = judged(parts, "practical")
    assert metrics["top1_mismatch_count"] == 1
    assert name == "within_tolerance"
    # 1 of 32 is 3 %: a verdict by shard would have been another.
    assert judged(parts[3:4], "practical")[0] == "breach"
    assert judged(parts[:3], "practical")[0] == "equivalent"


def test_extra_boxes_on_one_side_breach_on_either() -> None:
    """As many of the reference's boxes as ever, and one more in every tenth image."""

    def more(cand: list[Rows]) -> None:
        cand[2][at(16, 5)] = (10, 10, 30, 30, 0.6, 0, 0.5)

    quiet, busy = (REF * 3, REF * 2 + changed(more))
    for sides, lacking in (((quiet, busy), "candidate_only"), ((busy, quiet), "reference_only")):
        parts = [
            record_scenes(a, b, start=9 * n) for n, (a, b) in enumerate([sides, (quiet, quiet)])
        ]
        with in_files(parts) as records:
            found = detection_figures(records, STRIDES, NMS.max_detections, SEED)
        metrics = found.metrics
        assert metrics[lacking] == 1
        assert metrics["matched_boxes"] == 18
        assert metrics[f"{lacking}_rate"] == 1 / 19
        assert metrics["unmatched_rate"] == 1 / 37
        (breach,) = judge(found, Profiles(), "practical").breaches
        assert (breach.figure, breach.value) == ("unmatched_rate", 1 / 37)
        assert judge(found, Profiles(), "int8").name == "within_tolerance"


def test_a_class_that_always_flips_is_named() -> None:
    """Two rows of the head exchanged: 2 of 24 classes, in every shard."""
    parts = []
    for index in range(8):
        labels = [(index * 48 + number) % CLASSES for number in range(48)]
        ref = one_hot(labels, CLASSES, height=9.0)
        cand = ref.copy()
        cand[:, [5, 17]] = ref[:, [17, 5]]
        if index == 2:  # and one flip by chance
            cand[0, [labels[0], 2]] = ref[0, [2, labels[0]]]
        parts.append(record(ref, cand, labels, start=index * 48))
    with in_files(parts) as records:
        found = classification_figures(records, CLASSES)
    assert found.metrics["worst_classes"][:2] == [
        {"class_index": 5, "samples": 16, "flips": 16, "rate": 1.0},
        {"class_index": 17, "samples": 16, "flips": 16, "rate": 1.0},
    ]
    assert [row["rate"] < 1 for row in found.metrics["worst_classes"][2:]] == [True]
    verdict = judge(found, Profiles(), "strict")
    assert verdict.name == "breach"
    causes = likely_causes(verdict.breaches, found.metrics)
    assert any("class 5, 17 flips on all of its samples" in cause for cause in causes)
