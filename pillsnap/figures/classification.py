"""Figures of a classification cell."""

from __future__ import annotations

import math

import numpy as np

from pillsnap import noise
from pillsnap.figures import Figures, largest, mean, quantile, worst_samples
from pillsnap.records import Columns

# A reference that guesses right this often by chance alone shows nothing of the trained model.
CHANCE = 0.05


def classification_figures(columns: Columns, num_classes: int) -> Figures:
    """Figures over all samples of a cell that both engines answered with finite numbers.

    The top-1 flips that count against the tolerance leave out near ties of the reference (top-1
    minus top-2 probability within the drift limit of 1e-4), which flip in healthy exports too.
    """
    finite = columns["ref_finite"] & columns["cand_finite"]
    good = {name: column[finite] for name, column in columns.items()}
    flipped = good["ref_top1"] != good["cand_top1"]
    near_tie = flipped & (good["ref_margin"] <= noise.PROBABILITY)
    judged, count = int((flipped & ~near_tie).sum()), int(finite.sum())
    labelled = good["label"] >= 0
    correct = int((good["ref_top1"] == good["label"])[labelled].sum())
    asked = int(labelled.sum())
    metrics = {
        "samples": len(finite),
        # Where the reference is not finite either, it is the reference that has no signal.
        "non_finite": int((columns["ref_finite"] & ~columns["cand_finite"]).sum()),
        "mse_mean": mean(good["mse"]),
        "mse_p99": quantile(good["mse"], 0.99),
        "mse_max": largest(good["mse"]),
        "sse_mean": mean(good["sse"]),
        "prob_err_max": largest(good["prob_err_max"]),
        "logit_err_max": largest(good["logit_err_max"]),
        "kl_mean": mean(good["kl"]),
        "logit_snr_db": _snr_db(good),
        "top1_match_rate": (count - int(flipped.sum())) / count if count else None,
        "top1_mismatch_count": int(flipped.sum()),
        "top1_near_ties": int(near_tie.sum()),
        "top1_judged_flips": judged,
        "top1_judged_samples": count,
        "top1_mismatch_rate": judged / count if count else None,
        "flips_per_class": _flips_per_class(good["ref_top1"][flipped]),
        "reference_top1": correct / asked if asked else None,
        "candidate_top1": (
            int((good["cand_top1"] == good["label"])[labelled].sum()) / asked if asked else None
        ),
    }
    drift = np.where(finite, columns["prob_err_max"], np.inf)
    return Figures(
        metrics,
        _no_signal(columns, num_classes, correct, asked),
        worst_samples(columns["id"], drift),
    )


def _snr_db(good: Columns) -> float | None:
    """Signal-to-noise ratio of the logits, 10 log10(sum ref^2 / sum err^2); None without noise."""
    noise = math.fsum(good["logit_err_power"].tolist())
    signal = math.fsum(good["logit_power"].tolist())
    return 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else None


def _flips_per_class(classes: np.ndarray) -> dict[str, int]:
    """Flips by the reference's class, the ten with most first."""
    values, counts = np.unique(classes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:10]
    return {str(values[index]): int(counts[index]) for index in order}


def _no_signal(columns: Columns, num_classes: int, correct: int, asked: int) -> str | None:
    """Why this reference shows nothing: an untrained model would pass any comparison."""
    if not columns["ref_finite"].all():
        count = int((~columns["ref_finite"]).sum())
        return f"the reference's output is not finite for {count} samples"
    classes = len(np.unique(columns["label"][columns["label"] >= 0]))
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
    if asked and binomial_tail(correct, asked, chance) > CHANCE:
        return (
            f"the reference is right on {correct} of {asked} samples, no better than guessing "
            f"among {num_classes} classes: do class_map, mean, std and the checkpoint belong "
            "together?"
        )
    return None


def binomial_tail(successes: int, trials: int, p: float) -> float:
    """P(X >= successes) for X ~ Binomial(trials, p).

    Summed upwards from `successes`, where terms fall faster than geometrically once past the mean;
    at or below the mean the tail is at least about a half, and 1.0 is returned.
    """
    if successes <= trials * p:
        return 1.0
    log_term = (
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(p)
        + (trials - successes) * math.log1p(-p)
    )
    term = total = math.exp(log_term)
    for k in range(successes, trials):
        term *= (trials - k) / (k + 1) * p / (1 - p)
        total += term
        if term < total * 1e-12:
            break
    return total
