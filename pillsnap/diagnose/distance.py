"""How far two outputs of a stage are apart, in one number: multiples of numeric noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pillsnap.config.figures import find_figure
from pillsnap.engines import Batch
from pillsnap.pipeline.softmax import softmax

Figures = dict[str, float]


def measure_gap(reference: Batch, candidate: Batch) -> Figures:
    """Largest errors between two outputs; inf where shapes differ or the candidate is not finite.

    Args:
        reference: [N,C] logits, or [N,A,6 or 7] boxes and scores.
        candidate: the same; a detector's seventh column is for references alone.
    """
    detection = reference.ndim == 3
    wanted = reference[..., :6] if detection else reference
    found = candidate[..., :6] if candidate.ndim == 3 else candidate
    comparable = found.shape == wanted.shape and np.isfinite(found).all()
    if detection:
        return _box_gap(wanted, found if comparable else None)
    error = np.abs(softmax(found) - softmax(wanted)).max() if comparable else math.inf
    return {"prob_err_max": float(error)}


def _box_gap(wanted: Batch, found: Batch | None) -> Figures:
    if found is None:
        return {"raw_box_err_px": math.inf, "raw_score_err": math.inf}
    error = np.abs(found[..., :5].astype(np.float64) - wanted[..., :5])
    return {
        "raw_box_err_px": float(error[..., :4].max()),
        "raw_score_err": float(error[..., 4].max()),
    }


def gap_of(wanted: Batch, run: Callable[[Batch], Batch], batch: Batch) -> Figures:
    """`measure_gap` of what `run` answers: for the first image, and if that agrees, for all. Most
    hypotheses are wrong, and one image is enough to say so."""
    first = measure_gap(wanted[:1], run(batch[:1]))
    if over_noise(first) > 1 or len(batch) == 1:
        return first
    return measure_gap(wanted, run(batch))


def over_noise(figures: Figures) -> float:
    """The largest figure as a multiple of healthy float32 exports' noise; 1 and less is noise."""
    return max(value / find_figure(name).noise for name, value in figures.items())
