"""Boxes of two sides, one to one: the assignment of the largest total IoU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.pipeline.nms import Rows, to_rows

# Boxes that overlap less are different boxes, as in the loosest threshold of COCO's mAP.
MATCH_IOU = 0.5

# What a further pair is worth beside its IoU: nothing, except between sets of pairs whose totals
# are the same but for rounding. IoU 1 alone and 0.5 twice are such sets.
_PAIR_BONUS = 1e-9


@dataclass(frozen=True)
class Matches:
    """One-to-one pairs of two sets of boxes.

    Attributes:
        pairs: int64 [P, 2], index of the reference row and of the candidate row, by the former.
        ious: float64 [P], IoU of each pair, MATCH_IOU..1.
        conf_deltas: float32 [P], absolute difference in confidence of each pair.
        class_flips: boxes that both sides found and named differently: pairs, again one-to-one,
            of the rows left over on each side that overlap by at least MATCH_IOU. These rows have
            no partner in `pairs`.
    """

    pairs: NDArray[np.int64]
    ious: NDArray[np.float64]
    conf_deltas: NDArray[np.float32]
    class_flips: int

    def differences(self) -> NDArray[np.float64]:
        """float64 [P,2], 1 - IoU and absolute difference in confidence of each pair."""
        return np.column_stack([1 - self.ious, self.conf_deltas])


def match_boxes(reference: Rows, candidate: Rows) -> Matches:
    """Pair boxes of the same class that overlap by at least MATCH_IOU, each box at most once.

    Of all such sets of pairs, one of the largest total IoU; of those, one of the most pairs.
    Greedy pairing by falling IoU would split neighbours: where a box overlaps its own by 0.6 and
    the next one's by 0.7, it takes the latter and leaves two boxes alone. Sets that tie in both
    are equally good, and which of them comes out may differ when the sides are swapped; the total
    and the number of pairs do not. Sides of less than a pixel count as one. Rows without a partner
    are the caller's to count.

    Args:
        reference: float32 [M, 6].
        candidate: float32 [N, 6], finite like the reference.

    Raises:
        ValueError: an argument is not [K, 6].
        ImportError: boxes compete for one partner, and scipy, which settles that, is missing.
    """
    reference, candidate = to_rows(reference), to_rows(candidate)
    ious = box_iou(_thick(reference[:, :4]), _thick(candidate[:, :4]))
    rows, columns = np.nonzero(ious >= MATCH_IOU)
    overlaps = ious[rows, columns]
    same = reference[rows, 5] == candidate[columns, 5]
    if same.all():
        chosen = _assign(rows, columns, overlaps)
        flips = 0
    else:
        alike = np.flatnonzero(same)
        chosen = alike[_assign(rows[alike], columns[alike], overlaps[alike])]
        # Two rows of one class that overlap are never both left over: they would be a pair more.
        left = ~(np.isin(rows, rows[chosen]) | np.isin(columns, columns[chosen]))
        flips = len(_assign(rows[left], columns[left], overlaps[left]))
    pairs = np.array((rows[chosen], columns[chosen])).T
    conf_deltas = np.abs(reference[rows[chosen], 4] - candidate[columns[chosen], 4])
    return Matches(pairs, overlaps[chosen], conf_deltas, flips)


def _assign(
    rows: NDArray[np.int64], columns: NDArray[np.int64], overlaps: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Of possible pairs, the one-to-one set of the largest total overlap, then of the most pairs.

    Args:
        rows, columns: int64 [E], the ends of each possible pair; no pair twice.
        overlaps: float64 [E], above 0.

    Returns:
        int64 [P], indices of the chosen pairs, ascending.
    """
    # Most images have no box with a choice, and need no solver.
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    chosen: NDArray[np.int64] = alone.nonzero()[0]
    if len(chosen) == len(rows):
        return chosen

    from scipy.optimize import linear_sum_assignment

    contested = np.flatnonzero(~alone)
    _, row = np.unique(rows[contested], return_inverse=True)
    _, column = np.unique(columns[contested], return_inverse=True)
    gain = np.zeros((row.max() + 1, column.max() + 1))
    gain[row, column] = overlaps[contested] + _PAIR_BONUS
    # The solver also pairs what is not possible, at no gain.
    taken = np.zeros(gain.shape, dtype=bool)
    taken[linear_sum_assignment(gain, maximize=True)] = True
    return np.sort(np.concatenate([chosen, contested[taken[row, column]]]))


def _thick(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Boxes [K,4] with sides of a pixel at least. What lies in the border of the letterbox alone is
    cut to a line at the photo's edge, and without an area would be like nothing, not even itself.
    Inverted boxes stay so."""
    boxes = np.asarray(boxes, np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    more = np.where(sides >= 0, np.maximum(1 - sides, 0), 0) / 2
    return np.concatenate([boxes[:, :2] - more, boxes[:, 2:] + more], axis=1)


def box_iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes.

    Args:
        a: [M, 4], x1, y1, x2, y2, finite.
        b: [N, 4], likewise in the same units.

    Returns:
        float64 [M, N] in 0..1; 0 where neither box has an area. An inverted box has none.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    sides = np.maximum(
        np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2]), 0
    )
    # Products spelled out: for a few boxes, prod over an axis of two costs more than the rest.
    shared = sides[..., 0] * sides[..., 1]
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    union = area_a[:, None] + area_b - shared
    iou: NDArray[np.float64] = np.zeros(union.shape)
    np.divide(shared, union, out=iou, where=union > 0)
    return iou


def box_distance(a: Rows, b: Rows, match: Matches) -> float:
    """1 for each box without a partner, 1 - IoU plus the difference in confidence for each pair, of
    boxes [k,6] and [l,6]."""
    alone = len(a) + len(b) - 2 * len(match.pairs)
    return float(alone + (1 - match.ious).sum() + match.conf_deltas.sum())
