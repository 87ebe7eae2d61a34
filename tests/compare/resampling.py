"""What a resample is by definition: mAP of an evaluation whose images count as often as drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.figures.ranking import THRESHOLDS, Evaluation, MeanAP


def resample(evaluation: Evaluation, weights: NDArray[np.int64]) -> MeanAP:
    """Means over the classes with a labelled box in these images; nan where there is none.

    Args:
        evaluation: of N images.
        weights: [N], how many times each image counts.
    """
    sample = weights[None].astype(np.int64)
    labelled = [ranking for ranking in evaluation.rankings if ranking.labels(sample) > 0]
    if not labelled:
        return MeanAP(float("nan"), float("nan"))
    averages = [ranking.average_precisions(sample, range(THRESHOLDS)) for ranking in labelled]
    means = np.mean(averages, axis=(0, 1))
    return MeanAP(float(means[0]), float(means.mean()))
