"""What a cell shows beside breaches: drift beyond numeric noise, and gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pillsnap.compare.figures import Metrics
from pillsnap.compare.limits import exceeds
from pillsnap.config.figures import EXACTNESS, FIGURES, Figure
from pillsnap.config.tolerances import Tolerances


def values_of(figure: Figure, metrics: Metrics) -> Iterator[tuple[float | None, str]]:
    """The values of a figure, and where each was found."""
    if figure.per_stride:
        for row in metrics.get("per_stride", ()):
            yield row.get(figure.name), f"stride {row['stride']}"
    else:
        yield metrics.get(figure.name), ""


def is_exact(metrics: Mapping[str, Any]) -> bool:
    """Whether figures were measured against float64, and show no more rounding than torch's."""
    found = [
        exceeds(value, figure.noise)
        for figure in FIGURES
        if figure.limited_by == EXACTNESS and figure.noise is not None
        if (value := metrics.get(figure.name)) is not None
    ]
    return bool(found) and not any(found)


def drifted(metrics: Mapping[str, Any]) -> bool:
    """Whether figures show more than the numeric noise of a healthy float32 export: how exact the
    first images are excuses no difference on the others."""
    limits = {figure.name: figure.noise for figure in FIGURES if figure.noise is not None}
    limits["class_flips"] = 0
    return any(exceeds(metrics.get(name) or 0, limit) for name, limit in limits.items())


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
