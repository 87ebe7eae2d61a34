"""Verdicts: every tolerance by itself, their order, hints, and the exit code of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import product
from typing import Any

import pytest

from pillsnap.compare import noise
from pillsnap.compare.certify import Certified, in_words
from pillsnap.compare.drift import tolerance_shares
from pillsnap.compare.figures import Figures, Metrics
from pillsnap.compare.hints import ALWAYS, likely_causes
from pillsnap.compare.limits import exceeds
from pillsnap.compare.verdict import (
    BATCH,
    BUDGET,
    CERTIFIED,
    GRAPH,
    Breach,
    Verdict,
    VerdictName,
    certified,
    concerns_outputs,
    find_breaches,
    find_over_budget,
    judge,
    profile_for,
)
from pillsnap.config.figures import FIGURES
from pillsnap.config.tolerances import Profiles, Tolerances
from pillsnap.gate.finish import decide_exit_code

UNJUDGED = Tolerances(**{item.name: None for item in fields(Tolerances)})
DEFAULT = Profiles()


def classification(**changes: Any) -> Metrics:
    """Figures of a classification cell without any drift."""
    return {
        "samples": 32,
        "non_finite": 0,
        "mse_mean": 0.0,
        "mse_p99": 0.0,
        "top1_mismatch_rate": 0.0,
        "prob_err_max": 0.0,
        **changes,
    }


def detection(
    per_stride: Mapping[int, tuple[float | None, float | None]], **changes: Any
) -> Metrics:
    """Figures of a detection cell; `per_stride` gives (box error, score error) by stride, and
    class_flip_gap is of every stride."""
    gap = changes.setdefault("class_flip_gap", 0.0)
    rows = [
        {
            **{"stride": stride, "raw_box_err_px": box, "raw_score_err": score},
            "class_flip_gap": gap,
        }
        for stride, (box, score) in per_stride.items()
    ]
    return {
        "samples": 32,
        "non_finite": 0,
        "per_stride": rows,
        "raw_box_err_px": max((row["raw_box_err_px"] or 0 for row in rows), default=None),
        "raw_score_err": max((row["raw_score_err"] or 0 for row in rows), default=None),
        "class_flips": int(bool(gap)),
        "map_0_5_delta": 0.0,
        "map_0_5_0_95_delta": 0.0,
        "map_0_5_delta_upper": 0.0,
        "map_0_5_0_95_delta_upper": 0.0,
        "map_distinct_images": 32,
        "iou_delta_p95": 0.0,
        "unmatched_rate": 0.0,
        **changes,
    }


QUIET = {8: (0.0, 0.0), 16: (0.0, 0.0), 32: (0.0, 0.0)}


def figures(metrics: Metrics, no_signal: str | None = None) -> Figures:
    return Figures(metrics, no_signal, ())


def verdict(metrics: Metrics, profile: str = "strict", no_signal: str | None = None) -> VerdictName:
    return judge(figures(metrics, no_signal), DEFAULT, profile).name


# The figures that each tolerance bounds: (name in the breach, how to set it).
BOUNDED: dict[str, list[tuple[str, Any]]] = {
    **{
        key: [(key, lambda value, key=key: classification(**{key: value}))]
        for key in ("mse_mean", "mse_p99", "top1_mismatch_rate", "prob_err_max")
    },
    **{
        key: [(key, lambda value, key=key: detection(QUIET, **{key: value}))]
        for key in ("iou_delta_p95", "unmatched_rate")
    },
    "map_delta": [
        (name, lambda value, name=name: detection(QUIET, **{name: -value}))
        for name in ("map_0_5_delta", "map_0_5_0_95_delta")
    ],
    "exactness": [
        ("logits_exactness", lambda value: classification(logits_exactness=value)),
    ],
    "raw_box_err_px": [("raw_box_err_px", lambda value: detection({**QUIET, 16: (value, 0.0)}))],
    "raw_score_err": [
        ("raw_score_err", lambda value: detection({**QUIET, 16: (0.0, value)})),
        ("class_flip_gap", lambda value: detection({16: (0.0, 0.0)}, class_flip_gap=value)),
    ],
}
LIMIT = 0.0123
# A hair, and more than binary rounding.
ABOVE = 1 + 1e-9


def test_every_tolerance_is_tested_here() -> None:
    assert BOUNDED.keys() == {item.name for item in fields(Tolerances)}


@pytest.mark.parametrize("key", BOUNDED)
def test_a_tolerance_alone_breaches_just_above_its_limit(key: str) -> None:
    tolerances = replace(UNJUDGED, **{key: LIMIT})
    above = LIMIT * ABOVE
    for name, metrics_of in BOUNDED[key]:
        assert find_breaches(metrics_of(LIMIT), tolerances) == ()
        # Nor does what binary rounding adds.
        assert find_breaches(metrics_of(math.nextafter(LIMIT, 1)), tolerances) == ()
        (breach,) = find_breaches(metrics_of(above), tolerances)
        assert (breach.figure, breach.value, breach.limit) == (name, above, LIMIT)
        assert breach.where == ("stride 16" if key.startswith("raw_") else "")


def test_a_figure_that_meets_its_limit_but_for_binary_rounding_passes() -> None:
    for value, limit in ((0.91 - 0.9, 0.01), (1 - 0.99, 0.01), (0.901 - 0.9, 0.001), (0.3, 0.3)):
        assert not exceeds(value, limit)
        assert exceeds(value * ABOVE, limit)
    assert exceeds(1e-300, 0.0)
    assert exceeds(math.inf, 1.0)
    assert exceeds(math.nan, 1.0)
    for name in ("map_0_5_delta", "iou_delta_p95"):
        lost = {"map_0_5_delta": 0.9 - 0.91, "iou_delta_p95": 1 - 0.99}[name]
        assert find_breaches(detection(QUIET, **{name: lost}), DEFAULT.practical) == ()
    budget = {"latency_p95_ms": 0.3}
    assert find_over_budget({"contended": False, "latency_p95_ms": 0.1 + 0.2}, budget) == ()


@pytest.mark.parametrize("name", ["map_0_5_delta", "map_0_5_0_95_delta"])
def test_a_loss_of_map_breaches_and_a_gain_is_drift(name: str) -> None:
    lost = judge(figures(detection(QUIET, **{name: -0.025})), DEFAULT, "int8")
    assert lost.name == "breach"
    assert lost.breaches == (Breach(name, 0.025, 0.02),)
    assert lost.reason == f"{name} -0.025, a loss > 0.02"
    gained = judge(figures(detection(QUIET, **{name: 0.025})), DEFAULT, "int8")
    assert (gained.name, gained.breaches) == ("within_tolerance", ())
    assert gained.reason == f"{name} +0.025 is a gain beyond 0.02: drift, no breach"
    # Within the tolerance neither is drift by itself, and one that is not judged is none.
    for change in (-0.015, 0.015):
        assert verdict(detection(QUIET, **{name: change}), "int8") == "equivalent"
    unjudged = replace(DEFAULT, int8=UNJUDGED)
    for change in (-0.025, 0.025):
        found = judge(figures(detection(QUIET, **{name: change})), unjudged, "int8")
        assert found == Verdict("equivalent")


@pytest.mark.parametrize("key", BOUNDED)
def test_null_is_not_judged(key: str) -> None:
    for _, metrics_of in BOUNDED[key]:
        assert find_breaches(metrics_of(1e9), UNJUDGED) == ()
        # Nor is another figure's tolerance.
        limits = {item.name: 0.0 for item in fields(Tolerances)}
        # Where exactness is judged, what it is of is held to rounding: see below.
        differences = key in ("prob_err_max", "raw_box_err_px", "raw_score_err")
        others = Tolerances(**limits | ({"exactness": None} if differences else {}))
        assert find_breaches(metrics_of(1e9), replace(others, **{key: None})) == ()


@pytest.mark.parametrize("key", BOUNDED)
def test_a_figure_that_does_not_exist_is_not_judged(key: str) -> None:
    zero = Tolerances(**{item.name: 0.0 for item in fields(Tolerances)})
    absent = {name: None for name, _ in BOUNDED[key]}
    nothing = {8: (None, None)}
    for metrics in (
        classification(**absent),
        detection(nothing, **{"class_flip_gap": None, **absent}),
    ):
        assert find_breaches(metrics, zero) == ()


def test_every_stride_is_judged_by_itself() -> None:
    metrics = detection({8: (0.06, 0.0), 16: (0.0, 0.0), 32: (0.5, 2e-4)})
    found = find_breaches(metrics, DEFAULT.strict)
    assert [(breach.figure, breach.where) for breach in found] == [
        ("raw_box_err_px", "stride 8"),
        ("raw_box_err_px", "stride 32"),
        ("raw_score_err", "stride 32"),
    ]
    assert str(found[1]) == "raw_box_err_px 0.5 > 0.05 (stride 32)"
    assert str(Breach("mse_mean", 2.5e-6, 1e-6)) == "mse_mean 2.5e-06 > 1e-06"


def test_every_stride_is_as_exact_as_it_is() -> None:
    metrics = detection(QUIET)
    for row, exactness in zip(metrics["per_stride"], (1.2, 4.5, None), strict=True):
        row |= {"box_exactness": exactness, "score_exactness": 0.9}
    found = find_breaches(metrics, replace(UNJUDGED, exactness=4.0))
    assert found == (Breach("box_exactness", 4.5, 4.0, "stride 16"),)


def test_how_exact_a_candidate_is_says_whether_it_drifted() -> None:
    assert verdict(classification(logits_exactness=1.2), "practical") == "equivalent"
    # The first images excuse nothing of the others.
    far = classification(logits_exactness=1.2, prob_err_max=9e-4)
    assert verdict(far, "practical") == "within_tolerance"
    # Near in probability, and yet another function.
    assert verdict(classification(logits_exactness=14.0), "practical") == "within_tolerance"
    flipped = classification(logits_exactness=1.2, top1_mismatch_rate=1 / 300)
    assert verdict(flipped, "practical") == "within_tolerance"


def test_without_signal_a_candidate_is_as_exact_as_torch_or_not() -> None:
    profiles = replace(DEFAULT, strict=replace(UNJUDGED, exactness=4.0))

    def judged(exactness: float) -> Verdict:
        metrics = classification(logits_exactness=exactness)
        return judge(figures(metrics, "is it trained?"), profiles, "strict")

    exact = judged(1.2)
    assert exact.name == "inconclusive"
    assert exact.reason == "is it trained?; the arithmetic is as exact as torch's"
    assert judged(14.0).name == "breach"
    assert judged(14.0).reason == "logits_exactness 14 > 4"


def test_output_that_is_not_finite_breaches_whatever_the_profile() -> None:
    for metrics in (classification(non_finite=1), detection(QUIET, non_finite=1)):
        assert find_breaches(metrics, UNJUDGED) == (Breach("non_finite", 1, 0),)


def test_changed_classes_breach_where_exactness_or_raw_scores_are_judged() -> None:
    metrics = detection({8: (0.0, 0.0)}, class_flip_gap=0.3)
    breach = Breach("class_flip_gap", 0.3, noise.SCORE, "stride 8")
    assert find_breaches(metrics, DEFAULT.strict) == (breach,)
    judged = replace(UNJUDGED, raw_score_err=0.2)
    assert find_breaches(metrics, judged) == (replace(breach, limit=0.2),)
    assert find_breaches(metrics, DEFAULT.practical) == ()
    assert verdict(metrics, "practical") == "within_tolerance"
    # A near tie flips in healthy exports too.
    near = detection(QUIET, class_flip_gap=noise.SCORE)
    assert verdict(near) == "equivalent"


def test_differences_on_all_images_are_held_to_what_rounding_explains() -> None:
    """Exactness is of four images; the others of an ill-conditioned model drift as much as torch
    from itself, and those of others no more than numeric noise."""
    drift = {32: (0.9, 2e-4)}
    for rounding, expected in ((0.0, "breach"), (1e-5, "breach"), (0.001, "equivalent")):
        metrics = detection(drift, class_flip_gap=3e-4)
        own = {"box_rounding": rounding, "score_rounding": rounding / 1e3}
        metrics["per_stride"][0].update(own)
        assert verdict({**metrics, **own}) == expected
    # A tolerance of one's own is that.
    profiles = replace(DEFAULT, strict=replace(DEFAULT.strict, raw_box_err_px=0.5))
    assert judge(figures({**metrics, **own}), profiles, "strict").reason == (
        "raw_box_err_px 0.9 > 0.5 (stride 32)"
    )
    for rounding, expected in ((1e-6, "breach"), (1e-5, "equivalent")):
        assert verdict(classification(prob_err_max=1e-3, logits_rounding=rounding)) == expected


def test_images_in_other_batches_are_held_to_what_rounding_explains() -> None:
    for rounding, expected in ((1e-6, "breach"), (1e-5, "equivalent")):
        drift = {"prob_err_max": 1e-3, "logit_err_max": 0.1}
        metrics = classification(logits_rounding=rounding)
        assert judge(figures(metrics), DEFAULT, "strict", batch_drift=drift).name == expected


def test_the_default_limits_are_those_of_the_contract() -> None:
    strict, practical, fp16, int8 = (
        getattr(DEFAULT, name) for name in ("strict", "practical", "fp16", "int8")
    )
    assert (strict.mse_mean, strict.mse_p99, strict.top1_mismatch_rate) == (1e-6, 5e-6, 0.001)
    raw = (strict.prob_err_max, strict.raw_box_err_px, strict.raw_score_err)
    assert (strict.exactness, *raw) == (8.0, None, None, None)
    others = [getattr(DEFAULT, name).exactness for name in ("practical", "fp16", "int8")]
    assert others == [None] * 3
    assert (practical.mse_mean, practical.mse_p99) == (1e-4, 5e-4)
    assert practical.top1_mismatch_rate == 0.01
    assert (fp16.mse_mean, fp16.top1_mismatch_rate, int8.top1_mismatch_rate) == (5e-4, 0.02, 0.03)
    boxes = [(p.map_delta, p.iou_delta_p95, p.unmatched_rate) for p in (strict, practical)]
    assert boxes == [(0.01, 0.01, 0.01)] * 2
    assert (fp16.map_delta, fp16.iou_delta_p95, fp16.unmatched_rate) == (0.01, 0.02, 0.01)
    assert (int8.map_delta, int8.iou_delta_p95, int8.unmatched_rate) == (0.02, 0.08, 0.03)


DRIFTED: dict[str, tuple[Metrics, Metrics]] = {
    # By figure: at the limit of numeric noise, and just above it.
    "probability": (
        classification(prob_err_max=noise.PROBABILITY),
        classification(prob_err_max=noise.PROBABILITY * ABOVE),
    ),
    "box": (
        detection({**QUIET, 8: (noise.BOX_PX, 0.0)}),
        detection({**QUIET, 8: (noise.BOX_PX * ABOVE, 0.0)}),
    ),
    "score": (
        detection({**QUIET, 8: (0.0, noise.SCORE)}),
        detection({**QUIET, 8: (0.0, noise.SCORE * ABOVE)}),
    ),
    "flip": (classification(), classification(top1_mismatch_rate=1 / 300)),
    "class": (
        detection(QUIET, class_flip_gap=noise.SCORE),
        detection(QUIET, class_flip_gap=noise.SCORE * ABOVE),
    ),
}


@pytest.mark.parametrize("key", DRIFTED)
def test_drift_beyond_noise_is_within_tolerance_only(key: str) -> None:
    quiet, drifted = DRIFTED[key]
    assert verdict(quiet, "practical") == "equivalent"
    assert verdict(drifted, "practical") == "within_tolerance"
    # Under strict the same drift is a breach.
    assert verdict(quiet, "strict") == "equivalent"
    assert verdict(drifted, "strict") == "breach"


def test_without_signal_in_the_reference_nothing_is_proved() -> None:
    reason = "is it trained?"
    found = judge(figures(classification(), reason), DEFAULT, "strict")
    assert found == Verdict("inconclusive", reason=reason)
    assert verdict(classification(prob_err_max=0.5), "int8", reason) == "inconclusive"
    # What lies outside the profile is named all the same.
    found = judge(figures(classification(mse_mean=1.0), reason), DEFAULT, "strict")
    assert (found.name, found.looser) == ("inconclusive", None)
    assert found.reason == "is it trained?; outside its profile: mse_mean 1 > 1e-06"
    assert found.breaches == (Breach("mse_mean", 1.0, 1e-6),)


def test_output_that_is_not_finite_breaches_without_signal_too() -> None:
    found = judge(figures(classification(non_finite=2), "is it trained?"), DEFAULT, "strict")
    assert (found.name, found.reason) == ("breach", "non_finite 2 > 0")


def test_breach_and_inconclusive_fail() -> None:
    assert [Verdict(name).failed for name in ("equivalent", "within_tolerance")] == [False, False]
    assert [Verdict(name).failed for name in ("breach", "inconclusive")] == [True, True]


def test_all_breaches_are_named() -> None:
    metrics = classification(mse_mean=1.0, mse_p99=2.0, non_finite=3)
    found = judge(figures(metrics), DEFAULT, "strict")
    assert [breach.figure for breach in found.breaches] == ["non_finite", "mse_mean", "mse_p99"]
    assert found.reason == "non_finite 3 > 0; mse_mean 1 > 1e-06; mse_p99 2 > 5e-06"


@pytest.mark.parametrize(
    ("metrics", "profile", "looser"),
    [
        (classification(mse_mean=1e-5), "strict", "practical"),
        (classification(mse_mean=2e-4), "strict", "fp16"),
        (classification(mse_mean=1e-3), "strict", "int8"),
        (classification(top1_mismatch_rate=0.5), "strict", None),
        (classification(non_finite=1), "strict", None),
        (classification(mse_mean=2e-4), "practical", "fp16"),
        (classification(mse_mean=1e-3), "fp16", "int8"),
        (classification(top1_mismatch_rate=0.031), "int8", None),
        (detection(QUIET, iou_delta_p95=0.015), "strict", "fp16"),
        (detection(QUIET, map_0_5_delta=-0.015), "strict", "int8"),
    ],
)
def test_a_breach_names_the_looser_profile_that_holds(
    metrics: Metrics, profile: str, looser: str | None
) -> None:
    found = judge(figures(metrics), DEFAULT, profile)
    assert (found.name, found.looser) == ("breach", looser)


def test_the_profile_of_a_precision() -> None:
    for configured in ("strict", "practical", "int8"):
        profiles = replace(DEFAULT, profile=configured)
        assert profile_for("fp32", profiles) == configured
        assert profile_for("fp16", profiles) == "fp16"
        assert profile_for("int8", profiles) == "int8"


@pytest.mark.parametrize("profile", ["strict", "practical", "fp16", "int8"])
def test_the_number_of_samples_never_changes_a_verdict(profile: str) -> None:
    for metrics in (
        classification(),
        classification(mse_mean=1e-5, prob_err_max=0.02),
        classification(top1_mismatch_rate=0.25),
        detection({**QUIET, 8: (0.4, 0.2)}, unmatched_rate=0.02),
    ):
        for no_signal in (None, "is it trained?"):
            expected = judge(figures({**metrics, "samples": 1}, no_signal), DEFAULT, profile)
            for samples in (32, 299, 2995, 10**6):
                again = figures({**metrics, "samples": samples}, no_signal)
                assert judge(again, DEFAULT, profile) == expected


def flips(failures: int, trials: int, **changes: Any) -> Metrics:
    rate = failures / trials if trials else None
    counts = {"top1_distinct_flips": failures, "top1_distinct_samples": trials}
    return classification(top1_mismatch_rate=rate, **counts, **changes)


def boxes(only: tuple[int, int], sides: tuple[int, int], **changes: Any) -> Metrics:
    counts = {"distinct_unmatched": sum(only), "distinct_boxes": sum(sides)}
    return detection(QUIET, unmatched_rate=sum(only) / sum(sides), **counts, **changes)


def maps(delta: float, upper: float | None, images: int = 400) -> Metrics:
    """A detection cell whose boxes certify their rate, and both its mAPs with this bound."""
    names = ("map_0_5_delta", "map_0_5_0_95_delta")
    found = boxes((0, 0), (5000, 5000), map_distinct_images=images)
    return found | dict.fromkeys(names, delta) | {f"{name}_upper": upper for name in names}


def test_what_the_sample_certifies_stands_beside_the_rates() -> None:
    (found,) = certified(flips(0, 32), DEFAULT.strict).items()
    assert (found[0], found[1].failures, found[1].trials) == ("top1_mismatch_rate", 0, 32)
    assert (found[1].tolerance, found[1].certifies, found[1].samples_needed) == (0.001, False, 2995)
    evidence = certified(boxes((1, 2), (100, 101)), DEFAULT.int8)
    assert evidence.keys() == {"unmatched_rate", "map_0_5_delta", "map_0_5_0_95_delta"}
    rate = evidence["unmatched_rate"]
    assert (rate.failures, rate.trials) == (3, 201)
    assert (rate.tolerance, rate.certifies) == (0.03, False)
    assert certified(flips(0, 32), UNJUDGED)["top1_mismatch_rate"].certifies is None
    assert certified({}, DEFAULT.strict) == {}


def test_what_the_images_certify_stands_beside_the_map_deltas() -> None:
    metrics = maps(-0.004, None) | {"map_0_5_delta_upper": 0.009, "map_0_5_0_95_delta_upper": 0.02}
    evidence = certified(metrics, DEFAULT.strict)
    assert evidence["map_0_5_delta"] == Certified(0.009, 0.01, True, 400)
    assert evidence["map_0_5_0_95_delta"] == Certified(0.02, 0.01, False, 400)
    assert certified(metrics, DEFAULT.int8)["map_0_5_0_95_delta"] == Certified(
        0.02, 0.02, True, 400
    )
    assert certified(metrics, UNJUDGED)["map_0_5_delta"] == Certified(0.009, None, None, 400)
    # Without labels there is no delta, and nothing to certify of it.
    without = boxes((0, 0), (9, 9)) | dict.fromkeys(("map_0_5_delta", "map_0_5_0_95_delta"))
    assert certified(without, DEFAULT.strict).keys() == {"unmatched_rate"}


def test_every_figure_that_is_certified_has_words() -> None:
    everything = {
        **certified(flips(0, 32), DEFAULT.strict),
        **certified(maps(0.0, 0.0), DEFAULT.strict),
    }
    assert everything.keys() == {figure.name for figure in FIGURES if figure.certified is not None}
    for name, found in everything.items():
        assert in_words(name, found)
    with pytest.raises(ValueError, match="no sample certifies mse_mean"):
        in_words("mse_mean", found)


PASSES = [
    flips(0, 2994),
    flips(5, 10_000, prob_err_max=5e-5),
    boxes((0, 0), (149, 149)),
]
PASSES_STRICT = [
    flips(0, 2995),
    flips(5, 11_000),
    boxes((0, 0), (149, 150)),
    maps(0.002, 0.01),
    maps(-0.002, 0.003),
]


@pytest.mark.parametrize("metrics", PASSES)
def test_gate_strict_wants_the_tolerance_certified(metrics: Metrics) -> None:
    assert not judge(figures(metrics), DEFAULT, "strict").failed
    found = judge(figures(metrics), DEFAULT, "strict", gate_strict=True)
    figure, evidence = next(iter(certified(metrics, DEFAULT.strict).items()))
    assert evidence.certified_upper is not None
    assert evidence.tolerance is not None
    assert found.name == "breach"
    assert found.breaches == (
        Breach(f"{figure}_certified", evidence.certified_upper, evidence.tolerance),
    )
    assert f"needs {evidence.samples_needed:,}" in found.reason
    assert "too few samples" in "".join(likely_causes(found.breaches, metrics))


def test_gate_strict_wants_the_map_deltas_certified() -> None:
    above = 0.01 * ABOVE
    for metrics in (maps(0.002, above), maps(-0.002, above)):
        assert not judge(figures(metrics), DEFAULT, "strict").failed
        found = judge(figures(metrics), DEFAULT, "strict", gate_strict=True)
        assert found.breaches == (
            Breach("map_0_5_delta_certified", above, 0.01),
            Breach("map_0_5_0_95_delta_certified", above, 0.01),
        )
        assert found.looser == "int8"
        assert "mAP@0.5 loss over 400 images: certifies" in found.reason
        assert ", not 1 %" in found.reason
        assert "too few samples" in "".join(likely_causes(found.breaches, metrics))
    # One of the two is enough.
    one = maps(0.002, 0.004) | {"map_0_5_0_95_delta_upper": 0.5}
    (breach,) = judge(figures(one), DEFAULT, "strict", gate_strict=True).breaches
    assert breach == Breach("map_0_5_0_95_delta_certified", 0.5, 0.01)
    # Where no draw had a labelled box, nothing is certified.
    found = judge(figures(maps(0.0, None)), DEFAULT, "strict", gate_strict=True)
    assert found.breaches[0] == Breach("map_0_5_delta_certified", 1.0, 0.01)


@pytest.mark.parametrize("metrics", PASSES_STRICT)
def test_gate_strict_passes_what_is_certified(metrics: Metrics) -> None:
    expected = judge(figures(metrics), DEFAULT, "strict")
    assert not expected.failed
    assert judge(figures(metrics), DEFAULT, "strict", gate_strict=True) == expected


def test_gate_strict_says_how_many_samples_it_takes() -> None:
    found = judge(figures(flips(0, 32)), DEFAULT, "strict", gate_strict=True)
    assert found.reason == (
        "top1_mismatch_rate_certified 0.0894 > 0.001 "
        "(0 of 32 flipped: certifies 8.9 %; 0.1 % needs 2,995)"
    )
    assert found.looser is None
    # The looser profile must be certified too.
    assert judge(figures(flips(0, 299)), DEFAULT, "strict", gate_strict=True).looser == "practical"
    assert judge(figures(flips(0, 298)), DEFAULT, "strict", gate_strict=True).looser == "fp16"


def test_gate_strict_judges_no_rate_without_a_tolerance() -> None:
    profiles = replace(DEFAULT, strict=UNJUDGED)
    for metrics in (flips(0, 32), boxes((0, 0), (5, 5)), classification()):
        found = judge(figures(metrics), profiles, "strict", gate_strict=True)
        assert found == Verdict("equivalent")
    # Where there was nothing to count, nothing is certified.
    found = judge(figures(flips(0, 0)), DEFAULT, "strict", gate_strict=True)
    assert found.breaches == (Breach("top1_mismatch_rate_certified", 1.0, 0.001),)


def test_gate_strict_leaves_other_verdicts_as_they_are() -> None:
    broken = figures(flips(16, 32, mse_mean=1.0))
    found = judge(broken, DEFAULT, "strict", gate_strict=True)
    assert found.breaches == judge(broken, DEFAULT, "strict").breaches
    assert found.reason == judge(broken, DEFAULT, "strict").reason
    blank = figures(flips(0, 32), "is it trained?")
    assert judge(blank, DEFAULT, "strict", gate_strict=True) == judge(blank, DEFAULT, "strict")
    # A looser profile that the figures hold and the sample does not certify would not have held.
    drifted = figures(flips(0, 32, mse_mean=1e-5))
    assert judge(drifted, DEFAULT, "strict").looser == "practical"
    assert judge(drifted, DEFAULT, "strict", gate_strict=True).looser is None


@pytest.mark.parametrize("profile", ["strict", "practical", "fp16", "int8"])
def test_without_the_option_what_is_certified_changes_no_verdict(profile: str) -> None:
    for few, many in ((flips(0, 1), flips(0, 10**6)), (flips(1, 2), flips(10**5, 2 * 10**5))):
        expected = judge(figures(few), DEFAULT, profile)
        assert judge(figures(many), DEFAULT, profile) == expected


def missing(count: int | None, **changes: Any) -> Metrics:
    return classification(classes_missing=count, **changes)


def test_classes_that_coverage_lacks_breach_where_they_are_required() -> None:
    metrics = missing(7)
    assert judge(figures(metrics), DEFAULT, "strict").name == "equivalent"
    found = judge(figures(metrics), DEFAULT, "strict", classes_required=True)
    assert found == Verdict(
        "breach", (Breach("classes_missing", 7, 0),), "classes_missing 7 > 0", looser=None
    )
    assert likely_causes(found.breaches, metrics) == [
        "the validation data have too few classes for export.compare.min_classes"
    ]


@pytest.mark.parametrize("count", [0, None, "not measured"])
def test_classes_that_are_all_there_or_not_asked_for_are_no_breach(count: Any) -> None:
    found = {} if count == "not measured" else {"classes_missing": count}
    for metrics in (classification(**found), detection(QUIET, **found)):
        verdict = judge(figures(metrics), DEFAULT, "strict", classes_required=True)
        assert verdict == Verdict("equivalent")


@pytest.mark.parametrize("profile", ["strict", "practical", "fp16", "int8"])
def test_no_profile_lets_missing_classes_pass(profile: str) -> None:
    # Named beside the drift, after it; and a profile that holds the drift would not have held.
    metrics = missing(1, mse_mean=1e-5)
    found = judge(figures(metrics), DEFAULT, profile, classes_required=True)
    assert found.breaches[-1] == Breach("classes_missing", 1, 0)
    assert found.looser is None
    assert judge(figures(metrics), DEFAULT, profile).looser == (
        "practical" if profile == "strict" else None
    )
    if profile == "strict":
        assert found.reason == "mse_mean 1e-05 > 1e-06; classes_missing 1 > 0"
        assert "too few classes" not in "".join(likely_causes(found.breaches, metrics))


def test_missing_classes_leave_other_verdicts_as_they_are() -> None:
    blank = judge(figures(missing(3), "is it trained?"), DEFAULT, "strict", classes_required=True)
    assert blank.name == "inconclusive"
    assert blank.reason == "is it trained?; outside its profile: classes_missing 3 > 0"
    # It is not for want of samples that a cell of too few classes breaches.
    few = judge(
        figures(flips(0, 32, classes_missing=3)),
        DEFAULT,
        "strict",
        gate_strict=True,
        classes_required=True,
    )
    assert [breach.figure for breach in few.breaches] == ["classes_missing"]


def causes(metrics: Metrics, profile: str = "strict") -> str:
    breaches = find_breaches(metrics, getattr(DEFAULT, profile))
    assert breaches
    return "; ".join(likely_causes(breaches, metrics))


def test_likely_causes_follow_the_pattern() -> None:
    assert causes(classification(non_finite=1)).startswith("conversion: overflow")
    assert "RGB/BGR" in causes(classification(top1_mismatch_rate=0.5, prob_err_max=0.9))
    assert "only the heads of stride 8, 32" in causes(
        detection({8: (1.0, 0.0), 16: (0.01, 1e-6), 32: (0.0, 0.1)})
    )
    assert "every stride drifted" in causes(
        detection({8: (1.0, 0.0), 16: (0.2, 0.1), 32: (0.0, 0.1)})
    )
    assert causes(detection(QUIET, unmatched_rate=0.5)).startswith("post-processing")
    assert "every stride drifted" in causes(detection(QUIET, class_flip_gap=0.3))
    drifted = classification(mse_mean=1e-5, prob_err_max=0.01)
    assert causes(drifted).startswith("conversion: weights or arithmetic")


def always(*classes: int, samples: int = 4, rate: float = 1.0) -> list[Metrics]:
    return [
        {"class_index": index, "samples": samples, "flips": round(rate * samples), "rate": rate}
        for index in classes
    ]


def test_a_class_that_flips_on_all_of_its_samples_is_named() -> None:
    def of(rows: list[Metrics]) -> str:
        return causes(classification(top1_mismatch_rate=0.01, worst_classes=rows))

    assert "class 7 flips on all of its samples" in of(always(7))
    assert "class 7, 3 flips on all of its samples" in of(always(7, 3) + always(9, rate=0.75))
    assert of(always(7)).startswith("class order or class rows")
    # Once is chance, and a class that keeps one is not lost.
    for rows in (always(7, samples=1), always(7, rate=0.75), []):
        assert "all of its samples" not in of(rows)
    # Where many do it is no fault of theirs.
    assert "all of its samples" in of(always(*range(ALWAYS - 1)))
    assert "all of its samples" not in of(always(*range(ALWAYS)))
    # It stands beside what is said of many flips.
    both = causes(classification(top1_mismatch_rate=0.5, worst_classes=always(7)))
    assert "RGB/BGR" in both
    assert "class 7 flips" in both


def test_likely_causes_go_by_the_figures_not_by_what_the_profile_judges() -> None:
    # practical judges no raw figure; that does not make the raw outputs agree.
    found = causes(classification(mse_mean=1e-3, prob_err_max=0.5), "practical")
    assert "post-processing" not in found
    assert "conversion" in found
    found = causes(
        detection({8: (9.0, 0.0), 16: (9.0, 0.1), 32: (9.0, 0.1)}, unmatched_rate=0.5), "practical"
    )
    assert "every stride drifted" in found
    assert "post-processing" not in found


def expected_exit_code(
    pytest_code: int, complete: bool, failed: bool, asked: bool, measured: bool
) -> int:
    """The contract: 4 and 2 stay pytest's; else 3 if the run is incomplete; else 1 for a breach, a
    failed test, or a gate that was asked for and measured nothing; else 0."""
    if pytest_code in (2, 4):
        return pytest_code
    if pytest_code == 3 or not complete:  # an internal error ends the run before its end
        return 3
    if failed or pytest_code == 1 or (asked and not measured):
        return 1
    return pytest_code  # 0; pytest's own 5 stays where nobody asked for the gate


FLAGS = tuple(product((True, False), repeat=4))


@pytest.mark.parametrize("pytest_code", range(6))
def test_exit_codes(pytest_code: int) -> None:
    for complete, failed, asked, measured in FLAGS:
        found = decide_exit_code(
            pytest_code=pytest_code,
            complete=complete,
            failed=failed,
            asked=asked,
            measured=measured,
        )
        assert found == expected_exit_code(pytest_code, complete, failed, asked, measured)


@pytest.mark.parametrize(
    ("pytest_code", "complete", "failed", "asked", "measured", "expected"),
    [
        (0, True, False, True, True, 0),  # a healthy gate
        (0, True, False, False, True, 0),  # the same as part of a plain run
        (0, True, True, True, True, 1),  # a breach, or inconclusive
        (0, True, True, False, True, 1),
        (1, True, False, True, True, 1),  # another test failed
        (0, True, False, True, False, 1),  # all skipped
        (0, True, False, False, False, 0),  # all skipped in a plain run
        (5, True, False, True, False, 1),
        (0, False, False, True, True, 3),  # a lost worker
        (1, False, True, True, True, 3),
        (2, False, True, True, True, 2),  # interrupted
        (2, True, True, True, True, 2),
        (4, False, True, True, False, 4),  # wrong options
        (3, True, False, True, True, 3),
    ],
)
def test_exit_codes_of_the_contract_by_hand(
    pytest_code: int, complete: bool, failed: bool, asked: bool, measured: bool, expected: int
) -> None:
    flags = (complete, failed, asked, measured)
    assert expected_exit_code(pytest_code, *flags) == expected
    assert (
        decide_exit_code(
            pytest_code=pytest_code,
            complete=complete,
            failed=failed,
            asked=asked,
            measured=measured,
        )
        == expected
    )


@pytest.mark.parametrize(("pytest_code", "expected"), [(1, 1), (2, 1), (3, 3), (4, 4)])
def test_stopped_by_the_user_after_a_failure_is_a_failure(pytest_code: int, expected: int) -> None:
    found = decide_exit_code(
        pytest_code=pytest_code,
        complete=False,
        failed=True,
        asked=True,
        measured=False,
        stopped=True,
    )
    assert found == expected


def test_only_breaches_of_what_the_model_answers_concern_its_outputs() -> None:
    speed = Breach("latency_p95_ms", 50, 40, BUDGET)
    samples = Breach(f"top1_mismatch_rate{CERTIFIED}", 0.09, 0.01)
    classes = Breach("classes_missing", 3, 0)
    assert not concerns_outputs((speed, samples, classes))
    assert concerns_outputs((speed, Breach("prob_err_max", 1e-3, 1e-4)))
    assert concerns_outputs((Breach("raw_score_err", 1e-3, 1e-4, "stride 8"),))


def test_other_batches_are_held_to_the_profile_too() -> None:
    metrics = classification()
    for drift, profile, name in (
        ({"prob_err_max": 1e-6, "logit_err_max": 9.0}, "strict", "equivalent"),
        ({"prob_err_max": 2e-4, "logit_err_max": 0.0}, "strict", "breach"),
        ({"prob_err_max": 2e-4, "logit_err_max": 0.0}, "int8", "within_tolerance"),
        (None, "strict", "equivalent"),
    ):
        assert judge(figures(metrics), DEFAULT, profile, batch_drift=drift).name == name
    found = judge(figures(metrics), DEFAULT, "strict", batch_drift={"prob_err_max": 2e-4})
    assert found.breaches == (Breach("prob_err_max", 2e-4, 1e-4, BATCH),)
    assert found.looser == "practical"
    assert concerns_outputs(found.breaches)
    assert likely_causes(found.breaches, metrics)[0].startswith(
        "an operator that computes over all"
    )
    boxes = judge(figures(detection(QUIET)), DEFAULT, "strict", batch_drift={"raw_box_err_px": 1.0})
    assert [breach.figure for breach in boxes.breaches] == ["raw_box_err_px"]


def test_a_file_that_was_changed_breaches_any_profile_and_without_signal() -> None:
    changed = (Breach(GRAPH, 3, 0, "Clip a added behind Relu b"),)
    for no_signal, profile in ((None, "strict"), (None, "practical"), ("is it trained?", "strict")):
        found = judge(figures(classification(), no_signal), DEFAULT, profile, over_budget=changed)
        assert (found.name, found.looser) == ("breach", None)
        assert found.reason == "graph_differences 3 > 0 (Clip a added behind Relu b)"
    first = "the file was changed after it was exported: Clip a added behind Relu b"
    (cause,) = likely_causes(changed, classification())
    assert cause.startswith(f"{first}; where a tool")
    both = (*changed, Breach("non_finite", 1, 0))
    assert likely_causes(both, classification())[0] == cause
    assert "overflow" in likely_causes(both, classification())[1]


def test_a_share_above_one_is_what_breaches() -> None:
    int8 = DEFAULT.int8
    metrics = classification(top1_mismatch_rate=0.015, mse_mean=1.0)
    assert tolerance_shares(metrics, int8) == {"top1_mismatch_rate": 0.5}
    tight = replace(DEFAULT.strict, mse_mean=0.0)
    found = tolerance_shares(classification(mse_mean=1e-9, top1_mismatch_rate=0.002), tight)
    breached = find_breaches(classification(mse_mean=1e-9, top1_mismatch_rate=0.002), tight)
    assert found["mse_mean"] == math.inf and found["top1_mismatch_rate"] == 2.0
    assert {breach.figure for breach in breached} == {k for k, v in found.items() if v > 1}
    # Of the strides the worst counts, of mAP a loss alone.
    boxes = detection({8: (0.01, 0.0), 16: (0.2, 0.0)}, map_0_5_delta=0.5)
    shares = tolerance_shares(boxes, DEFAULT.strict)
    assert shares["raw_box_err_px"] == pytest.approx(0.2 / 0.05) and shares["map_0_5_delta"] == 0.0
    assert tolerance_shares(classification(non_finite=1), int8)["non_finite"] == math.inf
