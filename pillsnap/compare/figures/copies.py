"""Copies among samples: files of the same bytes, whatever their names. A copy is no sample more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.figures import LISTED, Metrics, take
from pillsnap.compare.records import Columns, Records


def number_images(columns: Columns) -> NDArray[np.int64]:
    """int64 [N], which distinct image each sample is, from 0 in the order they appear."""
    # Of a SHA-256, so that two of a million images agree once in 30 million such sets.
    parts = columns.chunks("content") if isinstance(columns, Records) else [(columns["content"],)]
    heads = np.concatenate([np.ascontiguousarray(content[:, :8]) for (content,) in parts])
    _, first, image = np.unique(heads.view(np.uint64), return_index=True, return_inverse=True)
    ranks = np.empty(len(first), np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[image.ravel()]


def count_images(images: NDArray[np.int64]) -> int:
    """How many distinct images these samples are of."""
    return len(np.unique(images))


def have_copies(images: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [N], whether other samples are of the same image."""
    several: NDArray[np.bool_] = np.bincount(images)[images] > 1
    return several


def label_conflicts(
    columns: Columns, images: NDArray[np.int64], labels: NDArray[np.int64]
) -> Metrics:
    """Images whose copies are labelled in different ways, at most one of which is right.

    Args:
        images: int64 [N], as of number_images.
        labels: int64 [N], equal where two samples are labelled alike; -1 where nothing is known.
    """
    rows = np.flatnonzero(have_copies(images) & (labels >= 0))
    ways = images[rows] * (labels.max(initial=0) + 1) + labels[rows]
    rows = rows[np.sort(np.unique(ways, return_index=True)[1])]
    conflicts = np.flatnonzero(np.bincount(images[rows]) > 1)
    return {
        "label_conflicts": len(conflicts),
        "label_conflict_samples": [
            take(columns, "id", rows[images[rows] == image]) for image in conflicts[:LISTED]
        ],
    }
