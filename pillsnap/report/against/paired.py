"""Two runs over the same samples, sample by sample: what differs beyond chance.

Bounds are one-sided at 95 %, each. Of counts it is the sign test (exact binomial), of errors the
mean of the logarithm of their ratio (Student's t), of mAP the paired bootstrap over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare import noise
from pillsnap.compare.certify import CONFIDENCE
from pillsnap.compare.figures.bootstrap import bootstrap_map_deltas
from pillsnap.compare.figures.classification import binomial_tail
from pillsnap.compare.figures.coco import evaluate
from pillsnap.compare.figures.copies import number_images
from pillsnap.compare.records import Records, unragged

# An error must grow by as much at least: other builds of a runtime round otherwise.
LEAST_RATIO = 1.1
# Fewer samples support no bound of a mean.
FEWEST = 5

Values = Callable[[Records], NDArray[Any]]


@dataclass(frozen=True)
class Judged:
    """Whether the new run is worse or better, how that was found, and its bounds."""

    worse: bool
    better: bool
    how: str
    low: float | None = None
    high: float | None = None


def _alone(records: Records) -> NDArray[np.int64]:
    pairs = 2 * records["pairs_count"]
    found: NDArray[np.int64] = records["ref_boxes_count"] + records["cand_boxes_count"] - pairs
    return found


def _flips(records: Records) -> NDArray[np.int64]:
    judged = records["ref_margin"] > noise.PROBABILITY
    found: NDArray[np.int64] = ((records["ref_top1"] != records["cand_top1"]) & judged).astype(int)
    return found


def _wrong(records: Records) -> NDArray[np.int64]:
    label = records["label"]
    found: NDArray[np.int64] = ((label >= 0) & (records["cand_top1"] != label)).astype(int)
    return found


def _box_distance(records: Records) -> NDArray[np.float64]:
    """Mean 1 - IoU of the pairs of an image; nan without pairs."""
    counts = records["pairs_count"]
    sums = np.bincount(
        np.repeat(np.arange(len(counts)), counts), records["pairs"][:, 0], minlength=len(counts)
    )
    found: NDArray[np.float64] = np.full(len(counts), np.nan)
    np.divide(sums, counts, out=found, where=counts > 0)
    return found


# By figure: what of a sample is an error, or is counted.
ERRORS: Mapping[str, Values] = {
    "mse_mean": lambda records: records["mse"],
    "mse_p99": lambda records: records["mse"],
    "prob_err_max": lambda records: records["prob_err_max"],
    "raw_box_err_px": lambda records: records["box_err_px"].max(axis=1),
    "raw_score_err": lambda records: records["score_err"].max(axis=1),
    "iou_delta_p95": _box_distance,
}
COUNTS: Mapping[str, Values] = {
    "top1_mismatch_rate": _flips,
    "unmatched_rate": _alone,
    "candidate_top1": _wrong,
}
MAPS = ("candidate_map_0_5", "candidate_map_0_5_0_95")


def compare_pairs(
    figure: str, old: Records, new: Records, max_detections: int, seed: int
) -> Judged | None:
    """A figure of two runs over the same samples; None where pairs do not tell."""
    rows = np.unique(number_images(new), return_index=True)[1]  # a copy is no sample more
    if figure in COUNTS:
        return _by_signs(COUNTS[figure](old)[rows], COUNTS[figure](new)[rows])
    if figure in ERRORS:
        return _by_ratio(ERRORS[figure](old)[rows], ERRORS[figure](new)[rows])
    if figure in MAPS:
        return _by_map(old, new, max_detections, seed)[MAPS.index(figure)]
    return None


def _by_signs(old: NDArray[Any], new: NDArray[Any]) -> Judged:
    more, fewer = int((new > old).sum()), int((new < old).sum())
    change = (new - old).astype(np.float64)
    middle, spread = float(change.mean()), 1.645 * float(change.std()) / math.sqrt(len(change))
    chance = 1 - CONFIDENCE
    return Judged(
        more > fewer and binomial_tail(more, more + fewer, 0.5) <= chance,
        fewer > more and binomial_tail(fewer, more + fewer, 0.5) <= chance,
        f"{more} of {len(change)} samples have more, {fewer} fewer; mean change of a sample",
        middle - spread,
        middle + spread,
    )


def _by_ratio(old: NDArray[Any], new: NDArray[Any]) -> Judged | None:
    both = np.isfinite(old) & np.isfinite(new)
    # What is exact has no ratio: it counts as the smallest error that is there.
    seen = np.concatenate([old[both], new[both]]).astype(np.float64)
    if both.sum() < FEWEST or not seen.any():
        return None
    least = seen[seen > 0].min()
    logs = np.log(np.maximum(new[both], least) / np.maximum(old[both], least))

    from scipy.special import stdtrit

    count = len(logs)
    middle = float(logs.mean())
    spread = float(stdtrit(count - 1, CONFIDENCE)) * float(logs.std(ddof=1)) / math.sqrt(count)
    low, high = math.exp(middle - spread), math.exp(middle + spread)
    how = f"new over old, geometric mean of {count} samples"
    return Judged(low > LEAST_RATIO, high < 1 / LEAST_RATIO, how, low, high)


def _by_map(
    old: Records, new: Records, max_detections: int, seed: int
) -> tuple[Judged | None, Judged | None]:
    labelled = np.flatnonzero(new["labelled"])
    truth, before, after = (
        [boxes[row] for row in labelled]
        for boxes in (
            unragged(new, "truth"),
            unragged(old, "cand_boxes"),
            unragged(new, "cand_boxes"),
        )
    )
    sides = [evaluate(truth, found, max_detections=max_detections) for found in (before, after)]
    if sides[0] is None or sides[1] is None:
        return None, None
    images = np.unique(number_images(new)[labelled], return_inverse=True)[1]
    deltas = bootstrap_map_deltas(sides[0], sides[1], seed=seed, images=images)
    deltas = deltas[~np.isnan(deltas[:, 0])]
    if not len(deltas):
        return None, None
    low, high = np.quantile(deltas, (1 - CONFIDENCE, CONFIDENCE), axis=0).tolist()
    how = f"change over {len(labelled)} resampled images"
    first, second = (Judged(high[at] < 0, low[at] > 0, how, low[at], high[at]) for at in range(2))
    return first, second
