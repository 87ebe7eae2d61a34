"""Charts as numbers: what charts.html draws as SVG, in a plot of WIDTH x HEIGHT units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 46, WIDTH - 22, 10, HEIGHT - 38

# Of a longer range the lower end is cut: what is smaller is drawn as the smallest.
MOST_DECADES = 16
BINS_A_DECADE = 4

MOST_POINTS = 600

Scale = Callable[[float], float]


@dataclass
class Chart:
    """A plot with its axes.

    Attributes:
        text: what it shows, for those who do not see it.
        x, y: what stands at its axes.
        x_ticks, y_ticks: place and text.
        bars: x, y, width, height.
        paths: by kind, an SVG path.
        rules: x1, y1, x2, y2 and kind of a line across.
        marks: x, y and text.
        legend: kind and text.
    """

    title: str
    text: str
    x: str
    y: str
    x_ticks: list[tuple[float, str]] = field(default_factory=list)
    y_ticks: list[tuple[float, str]] = field(default_factory=list)
    bars: list[tuple[float, float, float, float]] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    rules: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    marks: list[tuple[float, float, str]] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)


def histogram(
    title: str, unit: str, values: NDArray[Any], limits: Mapping[str, tuple[str, float | None]]
) -> Chart | None:
    """How many samples differ by how much, on a logarithmic axis; None where none differs.

    Args:
        values: [N], not below 0; what is not finite is left out, and counted.
        limits: by kind, name and value of what they are held against; null is none.
    """
    finite = values[np.isfinite(values)]
    shown = {kind: limit for kind, limit in limits.items() if limit[1]}
    positive = finite[finite > 0]
    if not len(positive):
        return None
    ends = [float(positive.min()), float(positive.max())]
    low, high, scale, ticks = _log_axis(
        [*ends, *(value for _, value in shown.values() if value)], LEFT, RIGHT
    )
    edges = np.logspace(low, high, (high - low) * BINS_A_DECADE + 1)
    counts, _ = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)
    most = int(counts.max())
    chart = Chart(title, "", unit, "samples", ticks, _counts(most))
    for index, count in enumerate(counts.tolist()):
        if count:
            left, right = scale(float(edges[index])), scale(float(edges[index + 1]))
            tall = max(1.0, (BOTTOM - TOP) * count / most)
            chart.bars.append((left + 0.5, BOTTOM - tall, right - left - 1, tall))
    for kind, (name, value) in shown.items():
        if value is not None:
            chart.rules.append((scale(value), TOP, scale(value), BOTTOM, kind))
            chart.legend.append((kind, f"{name} {value:.2g}"))
    lost = len(values) - len(finite)
    zeros = int((finite == 0).sum())
    notes = [f"{zeros:,} differ by 0, shown leftmost"] if zeros else []
    notes += [f"{lost:,} not finite, not shown"] if lost else []
    chart.legend += [("", note) for note in notes]
    chart.text = (
        f"{title}: {len(finite):,} samples, median {np.median(finite):.2g}, "
        f"largest {finite.max():.2g}; " + "; ".join(text for _, text in chart.legend)
    )
    return chart


def scatter(title: str, what: str, groups: Mapping[str, tuple[str, NDArray[Any]]]) -> Chart:
    """Candidate over reference, both from 0 to 1.

    Args:
        what: stands at both axes.
        groups: by kind, their name and their points [N,2], of which at most MOST_POINTS are drawn,
            those furthest from the diagonal among them.
    """
    ticks = [(step / 4, f"{step / 4:g}") for step in range(5)]
    chart = Chart(
        title,
        "",
        f"{what}, reference",
        f"{what}, candidate",
        [(_linear(LEFT, RIGHT, place), text) for place, text in ticks],
        [(_linear(BOTTOM, TOP, place), text) for place, text in ticks],
        rules=[(LEFT, BOTTOM, RIGHT, TOP, "diagonal")],
    )
    for kind, (name, points) in groups.items():
        if len(points):
            drawn = _some(points)
            chart.paths[kind] = "".join(
                f"M{_linear(LEFT, RIGHT, x):.4g} {_linear(BOTTOM, TOP, y):.4g}h0" for x, y in drawn
            )
            part = f", {len(drawn):,} drawn" if len(drawn) < len(points) else ""
            chart.legend.append((kind, f"{name}: {len(points):,}{part}"))
    chart.text = f"{title}: {', '.join(text for _, text in chart.legend)}"
    return chart


def depth_curve(found: Mapping[str, Any]) -> Chart | None:
    """How far outputs of layers differ over the depth of the network, with the first one that
    does; None of fewer than two layers."""
    points = [(depth, error) for depth, error in found["curve"] if depth is not None and error]
    if len(points) < 2:
        return None
    floor = found["floor"] or None
    errors = [error for _, error in points] + ([floor] if floor else [])
    _, _, scale, ticks = _log_axis(errors, BOTTOM, TOP)
    places = [(_linear(LEFT, RIGHT, depth), scale(error)) for depth, error in points]
    title = "Relative error over depth"
    chart = Chart(title, "", "depth of the network", "largest relative error", [], ticks)
    chart.x_ticks = [(_linear(LEFT, RIGHT, part / 4), f"{25 * part} %") for part in range(5)]
    chart.paths["curve"] = "M" + "L".join(f"{x:.4g} {y:.4g}" for x, y in places)
    if floor:
        chart.rules.append((LEFT, scale(floor), RIGHT, scale(floor), "limit"))
        chart.legend.append(("limit", f"what a healthy layer may have {floor:.2g}"))
    if found["places"]:
        node = found["places"][0]["node"]
        first = next((i for i, (_, error) in enumerate(points) if error > (floor or 0)), 0)
        chart.marks.append((*places[first], node))
        chart.legend.append(("mark", f"first that differs: {node}"))
    largest = max(error for _, error in points)
    notes = "; ".join(text for _, text in chart.legend)
    chart.text = f"{title}: {len(points)} layers, up to {largest:.2g}; {notes}"
    return chart


def trade_curve(
    title: str, x: str, points: Sequence[tuple[float, float, str]], margin: float
) -> Chart | None:
    """What is lost over what it costs, point by point; None of fewer than two.

    Args:
        points: what stands at the x axis, share of a tolerance, and name of the point.
        margin: the share up to which a set of layers holds.
    """
    if len(points) < 2:
        return None
    most = max(place for place, _, _ in points)
    shares = [share for _, share, _ in points if 0 < share < math.inf]
    _, _, scale, ticks = _log_axis([*shares, margin, 1.0], BOTTOM, TOP)
    chart = Chart(title, "", x, "part of a tolerance that is lost", [], ticks)
    chart.x_ticks = [
        (_linear(LEFT, RIGHT, step / 4), f"{most * step / 4:.3g}") for step in range(5)
    ]
    places = [
        (_linear(LEFT, RIGHT, place / most), TOP if share == math.inf else scale(share))
        for place, share, _ in points
    ]
    chart.paths["curve"] = "M" + "L".join(f"{across:.4g} {up:.4g}" for across, up in places)
    chart.marks = [(*place, name) for place, (_, _, name) in zip(places, points, strict=True)]
    chart.rules.append((LEFT, scale(1.0), RIGHT, scale(1.0), "limit"))
    chart.rules.append((LEFT, scale(margin), RIGHT, scale(margin), "rounding"))
    chart.legend = [("limit", "tolerance"), ("rounding", "must be held"), ("mark", "a set")]
    chart.text = f"{title}: " + "; ".join(
        f"{name} {place:.3g}, lost {share:.2g}" for place, share, name in points
    )
    return chart


def _some(points: NDArray[Any]) -> list[list[float]]:
    order = np.argsort(-np.abs(points[:, 0] - points[:, 1]), kind="stable")
    first, rest = order[: MOST_POINTS // 3], order[MOST_POINTS // 3 :]
    step = max(1, -(-len(rest) // (MOST_POINTS - MOST_POINTS // 3)))
    found: list[list[float]] = points[np.concatenate([first, rest[::step]])].tolist()
    return found


def _linear(start: float, end: float, part: float) -> float:
    return start + (end - start) * part


def _log_axis(
    values: Sequence[float], start: float, end: float
) -> tuple[int, int, Scale, list[tuple[float, str]]]:
    """Exponents of the first and the last whole decade, where a value lies, and ticks."""
    high = math.ceil(math.log10(max(values)) + 1e-9)
    low = max(high - MOST_DECADES, min(high - 1, math.floor(math.log10(min(values)))))

    def scale(value: float) -> float:
        part = (math.log10(value) - low) / (high - low) if value > 0 else 0.0
        return _linear(start, end, min(1.0, max(0.0, part)))

    step = -(-(high - low) // 6)
    return low, high, scale, [(scale(10.0**e), f"1e{e}") for e in range(low, high + 1, step)]


def _counts(most: int) -> list[tuple[float, str]]:
    return [
        (_linear(BOTTOM, TOP, count / most), f"{count:,}") for count in sorted({0, most // 2, most})
    ]
