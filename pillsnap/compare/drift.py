"""What a cell shows beside breaches: drift beyond numeric noise, and gains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pillsnap.compare.exactness import ROUNDING
from pillsnap.compare.figures import Metrics
from pillsnap.compare.limits import exceeds
from pillsnap.config.figures import EXACTNESS, FIGURES, Figure
from pillsnap.config.tolerances import Tolerances


def noise_of(figure: Figure, metrics: Metrics) -> float:
    """What two healthy float32 runs may differ by in a figure, beside these metrics."""
    own = metrics.get(f"{figure.part}{ROUNDING}") if figure.part else None
    return max(figure.noise, figure.roundings * (own or 0.0))


def limit_of(figure: Figure, tolerances: Tolerances, metrics: Metrics) -> float | None:
    """What a figure is held to; None is not judged. Exactness is of a few images: where it is
    judged, a difference without a tolerance of its own is held on every image to what rounding
    explains."""
    own: float | None = getattr(tolerances, figure.limited_by)
    if own is None and figure.part and tolerances.exactness is not None:
        return noise_of(figure, metrics)
    return own


def judged_metrics(figure: Figure, metrics: Metrics) -> Sequence[Metrics]:
    """Where a figure's values are: those of each stride, or the cell's own. Boxes that are of
    queries have no strides, and are judged together."""
    return (figure.per_stride and metrics.get("per_stride")) or [metrics]


def held(metrics: Metrics, tolerances: Tolerances) -> Iterator[tuple[Figure, float, float, str]]:
    """Every judged figure, what of its value is held against its limit, the limit, and where."""
    for figure in FIGURES:
        for values in judged_metrics(figure, metrics):
            value, limit = values.get(figure.name), limit_of(figure, tolerances, values)
            if value is not None and limit is not None:
                where = f"stride {values['stride']}" if values is not metrics else ""
                yield figure, figure.held(value), limit, where


def tolerance_shares(metrics: Metrics, tolerances: Tolerances) -> dict[str, float]:
    """How much of its tolerance each judged figure takes up, 1 being all of it; of strides the
    largest, of a gain 0, infinite where nothing is allowed or an output is not finite."""
    shares: dict[str, float] = {}
    for figure, value, limit, _ in held(metrics, tolerances):
        share = max(0.0, value) / limit if limit else math.inf if value > 0 else 0.0
        shares[figure.name] = max(share, shares.get(figure.name, 0.0))
    return shares | {"non_finite": math.inf} if metrics["non_finite"] else shares


def is_exact(metrics: Metrics) -> bool:
    """Whether figures were measured against float64, and show no more rounding than torch's."""
    found = [
        exceeds(value, figure.noise)
        for figure in FIGURES
        if figure.limited_by == EXACTNESS
        if (value := metrics.get(figure.name)) is not None
    ]
    return bool(found) and not any(found)


def drifted(found: Mapping[str, Any], metrics: Metrics) -> bool:
    """Whether figures show more than the numeric noise of a healthy float32 export, which
    `metrics` of the cell tell."""
    return any(
        exceeds(found.get(figure.name) or 0, noise_of(figure, metrics)) for figure in FIGURES
    )


def gains(metrics: Metrics, tolerances: Tolerances) -> list[str]:
    """In words, every figure that is better than the reference's by more than it may be worse."""
    return [
        f"{figure.name} {gain:+.3g} is a gain beyond {limit:.3g}: drift, no breach"
        for figure in FIGURES
        if figure.loss
        and (limit := getattr(tolerances, figure.limited_by)) is not None
        and (gain := metrics.get(figure.name)) is not None
        and exceeds(gain, limit)
    ]
