"""Figures of a classification cell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare import noise
from pillsnap.compare.certify import upper_bound
from pillsnap.compare.figures import (
    LISTED,
    Figures,
    Metrics,
    largest,
    mean,
    not_finite,
    quantile,
    take,
    total,
    worst_samples,
)
from pillsnap.compare.figures.copies import count_images, label_conflicts, number_images
from pillsnap.compare.records import Columns

# A reference that guesses right this often by chance alone shows nothing of the trained model.
CHANCE = 0.05


def classification_figures(
    columns: Columns, num_classes: int, *, population: bool = True
) -> Figures:
    """Figures over all samples of a cell that both engines answered with finite numbers.

    Args:
        columns: the cell's records.
        num_classes: of the classifier.
        population: whether the samples stand for all. Those chosen for being hard do not: that the
            reference is unsure of them, or wrong, says nothing of its training.

    The top-1 flips that count against the tolerance leave out near ties of the reference (top-1
    minus top-2 probability within the drift limit of 1e-4), which flip in healthy exports too.
    What the samples prove goes by the distinct images among them.
    """
    ref_finite, cand_finite = columns["ref_finite"], columns["cand_finite"]
    finite = ref_finite & cand_finite

    def good(name: str) -> NDArray[Any]:
        return columns[name][finite]

    flipped = good("ref_top1") != good("cand_top1")
    near_tie = flipped & (good("ref_margin") <= noise.PROBABILITY)
    against = flipped & ~near_tie
    judged, count = int(against.sum()), int(finite.sum())
    flips = int(flipped.sum())
    label = good("label")
    correct, candidate_correct = (
        int((good(side) == label)[label >= 0].sum()) for side in ("ref_top1", "cand_top1")
    )
    asked = int((label >= 0).sum())
    rows = np.flatnonzero(finite)
    mse = good("mse")
    mse_max, mse_sample = _largest(columns, "mse", rows)
    error_max, error_sample = _largest(columns, "prob_err_max", rows)
    metrics = {
        "samples": len(finite),
        **_distinct(columns, finite, against),
        # Where the reference is not finite either, it is the reference that has no signal.
        "non_finite": int((ref_finite & ~cand_finite).sum()),
        "mse_mean": mean(mse),
        "mse_p99": quantile(mse, 0.99),
        "mse_max": mse_max,
        "mse_max_sample": mse_sample,
        "sse_mean": mean(good("sse")),
        "prob_err_max": error_max,
        "prob_err_max_sample": error_sample,
        "logit_err_max": largest(good("logit_err_max")),
        "kl_mean": mean(good("kl")),
        "logit_snr_db": _snr_db(good("logit_power"), good("logit_err_power")),
        "top1_match_rate": (count - flips) / count if count else None,
        "top1_mismatch_count": flips,
        "top1_near_ties": int(near_tie.sum()),
        "top1_judged_flips": judged,
        "top1_judged_samples": count,
        "top1_mismatch_rate": judged / count if count else None,
        "worst_classes": _worst_classes(good("ref_top1"), flipped),
        "boundary_cases": _boundary_cases(columns, rows, flipped),
        "labelled_samples": asked,
        "reference_top1": correct / asked if asked else None,
        "candidate_top1": candidate_correct / asked if asked else None,
    }
    metrics["reference_top1_by_chance"] = _by_chance(metrics, num_classes)
    drift = np.where(finite, columns["prob_err_max"], np.inf)
    return Figures(
        metrics,
        not_finite(columns) or (_untrained(columns, num_classes, metrics) if population else None),
        worst_samples(columns, drift),
    )


def _largest(
    columns: Columns, name: str, rows: NDArray[np.int64]
) -> tuple[float | None, str | None]:
    """The largest value of a column among `rows`, and the id of the first sample that has it."""
    values = columns[name][rows]
    if not len(values):
        return None, None
    place = int(values.argmax())
    (sample,) = take(columns, "id", [rows[place]])
    return float(values[place]), sample


def _snr_db(power: NDArray[Any], err_power: NDArray[Any]) -> float | None:
    """Signal-to-noise ratio of the logits, 10 log10(sum ref^2 / sum err^2); None without noise."""
    error, signal = total(err_power), total(power)
    return 10 * math.log10(signal / error) if error > 0 and signal > 0 else None


def _worst_classes(classes: NDArray[Any], flipped: NDArray[Any]) -> list[Metrics]:
    """Ten classes (the reference's): those that flip on all of several samples first, then those
    that flip most, by count, then by rate, then by index."""
    size = int(classes.max(initial=-1)) + 1
    samples = np.bincount(classes, minlength=size)
    flips = np.bincount(classes[flipped], minlength=size)
    rate = flips / np.maximum(samples, 1)
    sometimes = (flips < samples) | (samples < 2)
    order = [i for i in np.lexsort((-rate, -flips, sometimes)) if flips[i]][:LISTED]
    return [
        {
            "class_index": int(index),
            "samples": int(samples[index]),
            "flips": int(flips[index]),
            "rate": float(rate[index]),
        }
        for index in order
    ]


def _boundary_cases(
    columns: Columns, rows: NDArray[np.int64], flipped: NDArray[Any]
) -> list[Metrics]:
    """Ten flipped samples, the surest of the reference first, then the ten of the others that it
    is least sure of."""
    margin = columns["ref_margin"][rows]
    gone, near = np.flatnonzero(flipped), np.flatnonzero(~flipped)
    chosen = np.concatenate(
        [
            gone[np.argsort(-margin[gone], kind="stable")[:LISTED]],
            near[np.argsort(margin[near], kind="stable")[:LISTED]],
        ]
    )
    names = {
        "sample": "id",
        "reference_margin": "ref_margin",
        "reference_class": "ref_top1",
        "candidate_class": "cand_top1",
        "prob_err": "prob_err_max",
    }
    found = {key: take(columns, name, rows[chosen]) for key, name in names.items()}
    cases = zip(*found.values(), flipped[chosen].tolist(), strict=True)
    return [dict(zip([*names, "flipped"], case, strict=True)) for case in cases]


def _distinct(columns: Columns, finite: NDArray[np.bool_], against: NDArray[np.bool_]) -> Metrics:
    """How many images the samples are of; `against` is of the finite ones."""
    images, label = number_images(columns), columns["label"]
    return {
        "distinct_samples": count_images(images),
        **label_conflicts(columns, images, label),
        "top1_distinct_flips": count_images(images[finite][against]),
        "top1_distinct_samples": count_images(images[finite]),
        "labelled_distinct_samples": count_images(images[finite & (label >= 0)]),
    }


def _by_chance(metrics: Metrics, num_classes: int) -> float | None:
    """How likely guessing is right as often on as many distinct images; None without labels."""
    if metrics["reference_top1"] is None:
        return None
    distinct = metrics["labelled_distinct_samples"]
    return binomial_tail(round(metrics["reference_top1"] * distinct), distinct, 1 / num_classes)


def _untrained(columns: Columns, num_classes: int, metrics: Metrics) -> str | None:
    """Why this reference shows nothing: an untrained model would pass any comparison."""
    label = columns["label"]
    classes = len(np.unique(label[label >= 0]))
    if classes > 1 and len(np.unique(columns["ref_top1"])) == 1:
        return f"the reference names one class for samples of {classes} classes: is it trained?"
    median = float(np.median(columns["ref_prob"]))
    chance = 1 / num_classes
    # Twice chance; among few classes, where that comes near certainty, a tenth of the way there.
    if median <= chance + min(chance, (1 - chance) / 10):
        return (
            f"the reference's probabilities are near uniform: median top-1 {median:.2g}, "
            f"chance {chance:.2g}: is it trained?"
        )
    top1, by_chance = metrics["reference_top1"], metrics["reference_top1_by_chance"]
    # One that is right on all of a few is no guess, and by_chance says what that proves.
    if by_chance is not None and by_chance > CHANCE and top1 < 1:
        asked, distinct = metrics["labelled_samples"], metrics["labelled_distinct_samples"]
        most = upper_bound(round(top1 * distinct), distinct)
        # Where it may as well be a good one, the sample is to blame.
        few = most is not None and most > (1 + chance) / 2
        return (
            f"the reference is right on {round(top1 * asked)} of {asked} samples, no better than "
            f"guessing among {num_classes} classes: "
            + ("these are too few to tell, verify more samples; " if few else "")
            + "do class_map, mean, std and the checkpoint belong together?"
        )
    return None


def binomial_tail(successes: int, trials: int, p: float) -> float:
    """P(X >= successes) for X ~ Binomial(trials, p)."""
    from scipy.special import bdtrc

    return float(bdtrc(successes - 1, trials, p))
