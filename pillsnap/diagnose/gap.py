"""How far two outputs of a stage are apart, in one number: multiples of numeric noise."""

from __future__ import annotations

import math

import numpy as np

from pillsnap import noise
from pillsnap.compare.classification import softmax
from pillsnap.engines import Batch

Figures = dict[str, float]

_LIMITS = {
    "prob_err_max": noise.PROBABILITY,
    "raw_box_err_px": noise.BOX_PX,
    "raw_score_err": noise.SCORE,
}


def measure_gap(reference: Batch, candidate: Batch) -> Figures:
    """Largest errors between two outputs; inf where shapes differ or the candidate is not finite.

    Args:
        reference: [N,C] logits, or [N,A,6 or 7] boxes and scores.
        candidate: the same; a detector's seventh column is for references alone.
    """
    detection = reference.ndim == 3
    names = ("raw_box_err_px", "raw_score_err") if detection else ("prob_err_max",)
    wanted = (*reference.shape[:2], 6) if detection else reference.shape
    found = candidate[..., :6] if detection and candidate.ndim == 3 else candidate
    if found.shape != wanted or not np.isfinite(found).all():
        return dict.fromkeys(names, math.inf)
    if not detection:
        return {names[0]: float(np.abs(softmax(found) - softmax(reference)).max())}
    difference = np.abs(found[..., :5].astype(np.float64) - reference[..., :5])
    return {names[0]: float(difference[..., :4].max()), names[1]: float(difference[..., 4].max())}


def over_noise(figures: Figures) -> float:
    """The largest figure as a multiple of what healthy float32 exports show; 1 and less is noise."""
    return max(value / _LIMITS[name] for name, value in figures.items())
