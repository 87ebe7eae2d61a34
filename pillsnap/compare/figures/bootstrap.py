"""What a sample of images certifies of a difference in mAP: a paired bootstrap over the images.

Efron & Tibshirani, "An Introduction to the Bootstrap" (Chapman & Hall, 1993), chapter 13:
confidence intervals by percentiles. An image, not a box, is what was drawn at random.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.certify import CONFIDENCE
from pillsnap.compare.figures.ranking import THRESHOLDS, Evaluation, Ranking

# What one call may do, in boxes times IoU thresholds times resamples: a few seconds on one core.
MOST_WORK = 200_000_000
FEWEST_RESAMPLES = 200

# Percentiles over resampled images say too little of the tail where there are fewer.
FEWEST_IMAGES = 20

# Resamples are worked on together as far as their arrays fit in this, but never less than one. In
# larger arrays, fresh pages of memory take longer than the arithmetic.
CHUNK_BYTES = 8 * 2**20


def bootstrap_map_deltas(
    reference: Evaluation,
    candidate: Evaluation,
    *,
    seed: int,
    resamples: int = 1000,
    images: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Differences in mAP, candidate minus reference, on images drawn with replacement.

    Both sides are measured on the same draw of images, so what they have in common cancels, and
    sides that agree everywhere differ by exactly 0. Draws come from PCG64 as whole numbers, and
    all else is IEEE arithmetic in a fixed order: a seed gives the same differences everywhere.

    Args:
        reference: of the labelled images.
        candidate: of the same images with the same labels.
        seed: not negative.
        resamples: how many draws. Fewer, but not below FEWEST_RESAMPLES, where they would take
            more than MOST_WORK: from about 20,000 boxes of both sides together.
        images: int64 [N], which distinct image each of them is, as of number_images: copies are
            drawn together, as one. None where there are none.

    Returns:
        float64 [B, 2], mAP@0.5 and mAP@0.5:0.95 by draw; nan for a draw without a labelled box.
    """
    both = (*reference.rankings, *candidate.rankings)
    work = sum(len(ranking.images) for ranking in both) * THRESHOLDS + reference.images
    resamples = min(resamples, max(FEWEST_RESAMPLES, MOST_WORK // work))
    random = np.random.Generator(np.random.PCG64(seed))
    deltas = np.empty((resamples, 2))
    step = _chunk(reference.images, both)
    if images is None:
        images = np.arange(reference.images)
    distinct = int(images.max()) + 1
    for start in range(0, resamples, step):
        chunk = deltas[start : start + step]
        drawn = _draw(random, distinct, len(chunk))
        chunk[:] = _deltas(reference, candidate, drawn.take(images, axis=1))
    return deltas


def upper_bounds(deltas: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """What the loss of mAP does not exceed, one-sided, at 95 % confidence; 0 where it is a gain.

    The 0.95 quantile of the resampled losses, reference minus candidate; draws without a labelled
    box are left out. A resample holds nothing that the images do not: where both sides agree on all
    of them the bound is 0, which says nothing of images unlike these.

    Args:
        deltas: float64 [B, 2], as from bootstrap_map_deltas.

    Returns:
        Bounds for mAP@0.5 and mAP@0.5:0.95; None where no draw has a labelled box.
    """
    losses = -deltas[~np.isnan(deltas[:, 0])]
    if not len(losses):
        return None, None
    # One of the values, not one between them: the least that 95 % of them do not exceed.
    bounds = np.quantile(losses, CONFIDENCE, axis=0, method="inverted_cdf")
    first, second = (max(0.0, bound) for bound in bounds.tolist())
    return first, second


def upper_map(evaluation: Evaluation, *, images: NDArray[np.int64], seed: int) -> float | None:
    """What mAP@0.5:0.95 of a model is at most, one-sided, at 95 % confidence; None where too few
    images are labelled to say so.

    The 0.95 quantile over resampled images, as the loss of a model which finds nothing.

    Args:
        images: see bootstrap_map_deltas.
    """
    if count_labelled(evaluation, images) < FEWEST_IMAGES:
        return None
    blind = tuple(
        Ranking(ranking.scores[:0], ranking.images[:0], ranking.matched[:, :0], ranking.labelled)
        for ranking in evaluation.rankings
    )
    nothing = Evaluation(evaluation.images, blind)
    deltas = bootstrap_map_deltas(evaluation, nothing, seed=seed, images=images)
    return upper_bounds(deltas)[1]


def count_labelled(evaluation: Evaluation, images: NDArray[np.int64]) -> int:
    """How many distinct images have a labelled box."""
    return len({image for each in evaluation.rankings for image in images[each.labelled].tolist()})


def _chunk(images: int, rankings: tuple[Ranking, ...]) -> int:
    """How many resamples fit in CHUNK_BYTES, by the arrays that are alive at once."""
    places = max(_most_places(ranking) for ranking in rankings)
    labels = max(len(ranking.labelled) for ranking in rankings)
    return max(1, CHUNK_BYTES // (8 * (3 * images + 8 * places + labels)))


def _most_places(ranking: Ranking) -> int:
    # A box that ties takes a place for each copy of its image; eleven copies are one in 10**8.
    sizes = np.diff(ranking.ties(), append=len(ranking.images))
    return int(np.where(sizes > 1, 10 * sizes, 1).sum())


def _draw(random: np.random.Generator, images: int, resamples: int) -> NDArray[np.int64]:
    """int64 [resamples, images], how often each image is drawn; each row adds up to `images`."""
    drawn = random.integers(0, images, size=(resamples, images))
    drawn += images * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * images).reshape(resamples, images)


def _deltas(
    reference: Evaluation, candidate: Evaluation, weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """float64 [B, 2] for weights int64 [B, N]."""
    classes = np.zeros((len(weights), 1))
    totals = np.zeros((len(weights), 2))
    for ours, theirs in zip(reference.rankings, candidate.rankings, strict=True):
        classes[:, 0] += ours.labels(weights) > 0
        thresholds = _differing(ours, theirs)
        if not thresholds:
            continue
        change = theirs.average_precisions(weights, thresholds)
        change -= ours.average_precisions(weights, thresholds)
        if thresholds[0] == 0:
            totals[:, 0] += change[:, 0]
        totals[:, 1] += change.sum(axis=1) / THRESHOLDS
    deltas = np.full_like(totals, np.nan)
    np.divide(totals, classes, out=deltas, where=classes > 0)
    return deltas


def _differing(a: Ranking, b: Ranking) -> list[int]:
    """IoU thresholds at which two rankings of a class may differ in average precision.

    Of a healthy export that is none for nearly every class, which makes the bootstrap cheap. How
    sure a box is counts only by its rank, and by what ties with it.
    """
    if not (np.array_equal(a.images, b.images) and np.array_equal(a.ties(), b.ties())):
        return list(range(THRESHOLDS))
    return [t for t in range(THRESHOLDS) if not np.array_equal(a.matched[t], b.matched[t])]
