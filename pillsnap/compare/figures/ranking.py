"""Mean average precision as COCO accumulates it, over images that count any number of times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of pycocotools' Params: IoU thresholds 0.5, 0.55, ..., 0.95, and recall points 0, 0.01, ..., 1.
THRESHOLDS = 10
RECALL_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class MeanAP:
    """Mean over the labelled classes, 0..1.

    Attributes:
        map_0_5: at an IoU of at least 0.5.
        map_0_5_0_95: mean over the IoU thresholds 0.5, 0.55, ..., 0.95.
    """

    map_0_5: float
    map_0_5_0_95: float


@dataclass(frozen=True)
class Ranking:
    """The found boxes of one labelled class over all images, and which of them are right.

    Attributes:
        scores: float64 [D], falling; equal ones by image and then by row.
        images: int32 [D], index of each box's image.
        matched: bool [10, D], whether each box has a labelled one, by IoU threshold.
        labelled: int32 [G], index of each labelled box's image, ascending.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.int32]
    matched: NDArray[np.bool_]
    labelled: NDArray[np.int32]

    def ties(self) -> NDArray[np.intp]:
        """intp: where each group of boxes of the same image and the same score starts."""
        changes = (np.diff(self.scores) != 0) | (np.diff(self.images) != 0)
        return np.flatnonzero(np.insert(changes, 0, True)[: len(self.scores)])

    def labels(self, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [B], how many labelled boxes there are, for weights as below."""
        total: NDArray[np.int64] = weights.take(self.labelled, axis=1).sum(axis=1)
        return total

    def average_precisions(
        self, weights: NDArray[np.int64], thresholds: Sequence[int]
    ) -> NDArray[np.float64]:
        """Average precision where each image counts as many times as its weight says.

        As COCOeval.accumulate on that many copies of the images. A run of copies of a right box
        raises precision and recall alike, so its end is all that matters of it. And only right
        boxes raise recall: precision falls from one of them to the next, so the best precision
        from some recall on is one at a right box.

        Args:
            weights: int64 [B, N], not negative, of each image in each sample of images.
            thresholds: indices of the IoU thresholds that are asked for, T of them.

        Returns:
            float64 [B, T], 0..1; 0 where there is no labelled box.
        """
        order, copies = self._order(int(weights.max()))
        counts = weights.take(self.images[order], axis=1)
        single = np.flatnonzero(copies >= 0)
        counts[:, single] = counts[:, single] > copies[single]
        ranks = np.cumsum(counts, axis=1)
        points, offsets = _recall_points(self.labels(weights))
        result = np.zeros((len(weights), len(thresholds)))
        for index, threshold in enumerate(thresholds):
            right = np.flatnonzero(self.matched[threshold, order])
            found = np.cumsum(counts.take(right, axis=1), axis=1)
            # COCOeval adds the same spacing; it makes a lone right box a hair less than 1.
            precision = found / (ranks.take(right, axis=1) + np.spacing(1))
            np.maximum.accumulate(precision[:, ::-1], axis=1, out=precision[:, ::-1])
            found += offsets[:, None]
            precision *= np.diff(points.take(found), axis=1, prepend=0.0)
            result[:, index] = precision.sum(axis=1) / len(RECALL_POINTS)
        return result

    def _order(self, most: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The ranking of up to `most` copies of each image.

        All copies of a box follow each other, except where it ties within its image: there, the
        boxes that tie follow each other, copy after copy, and each takes a place for each copy.

        Returns:
            intp [R], which box has each place, and intp [R], which copy of its image, counted
            from 0, that box is in; -1 where all copies of it share the place.
        """
        starts = self.ties()
        sizes = np.diff(starts, append=len(self.scores))
        places = np.where(sizes > 1, sizes * most, 1)
        offsets = np.arange(places.sum()) - np.repeat(np.cumsum(places) - places, places)
        sizes, starts = np.repeat(sizes, places), np.repeat(starts, places)
        return starts + offsets % sizes, np.where(sizes > 1, offsets // sizes, -1)


@dataclass(frozen=True)
class Evaluation:
    """Found boxes matched to labelled ones, once and for all; nothing of pycocotools is kept.

    22 bytes for a found box of a labelled class and 4 for a labelled box: 26 MB for 100,000
    images of ten boxes each.

    Attributes:
        images: how many there are.
        rankings: by labelled class, in the order of their ids.
    """

    images: int
    rankings: tuple[Ranking, ...]

    def mean_ap(self) -> MeanAP:
        """mAP over all images, as pycocotools' COCOeval accumulates it."""
        once = np.ones((1, self.images), np.int64)
        averages = [each.average_precisions(once, range(THRESHOLDS)) for each in self.rankings]
        means = np.mean(averages, axis=(0, 1))
        return MeanAP(float(means[0]), float(means.mean()))


def _recall_points(
    labels: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How many of the recall points are reached by any number of right boxes.

    Looked up instead of computed, for the quotients have to be COCOeval's: 35 boxes of 100 do not
    reach the point 0.35, which comes out a hair above that.

    Args:
        labels: int64 [B], how many boxes are labelled.

    Returns:
        float64 [P], and int64 [B]: what k of labels[b] boxes reach is at the latter's b plus k.
    """
    totals, which = np.unique(labels, return_inverse=True)
    tables = [
        np.searchsorted(RECALL_POINTS, np.arange(total + 1) / max(total, 1), side="right")
        for total in totals.tolist()
    ]
    starts = np.cumsum(totals + 1) - (totals + 1)
    return np.concatenate(tables).astype(np.float64), starts[which]
