"""How far a model's raw output is from another's, as one number that layers are ranked by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pillsnap.engines import Batch


def output_error(reference: Batch, output: Batch) -> float:
    """A relative squared error, 0 for equal outputs; infinite where `output` is not finite.

    Logits [N,C], centred, since softmax ignores a shift: power of the error over their power.

    Detections [N,boxes,6]: the same of the scores, plus for boxes the squared error of the edges
    over the area, and the part of other classes, both weighted by the reference's score: a
    detector's many boxes of background are never looked at.
    """
    if not np.isfinite(output).all():
        return float("inf")
    wanted, found = reference.astype(np.float64), output.astype(np.float64)
    if wanted.ndim == 2:
        wanted -= wanted.mean(axis=1, keepdims=True)
        found -= found.mean(axis=1, keepdims=True)
        return _ratio((found - wanted) ** 2, wanted**2)
    score = wanted[..., 4]
    area = (wanted[..., 2:4] - wanted[..., 0:2]).clip(1.0).prod(axis=-1)
    edges = ((found[..., :4] - wanted[..., :4]) ** 2).sum(axis=-1) / area
    classes = found[..., 5] != wanted[..., 5]
    return (
        _ratio((found[..., 4] - score) ** 2, score**2)
        + _ratio(score * edges, score)
        + _ratio(score * classes, score)
    )


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    """Sum of one over the sum of the other; 0 where the other has none."""
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0
