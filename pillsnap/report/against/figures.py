"""The figures of a cell beside those of an earlier run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from pillsnap.compare.certify import upper_bound
from pillsnap.compare.drift import drifted, noise_of
from pillsnap.compare.records import Records
from pillsnap.compare.result import SEVERITY
from pillsnap.compare.tasks import task_of
from pillsnap.config.figures import Figure, find_figure
from pillsnap.report.against.changes import Change, outcome
from pillsnap.report.against.paired import MAPS, Judged, compare_pairs
from pillsnap.report.evidence import NO_RECORDS

# Without pairs an error must be so many times the other, beyond noise: samples differ.
UNPAIRED_RATIO = 2.0

# How good the candidate itself is, where samples are labelled; the more the better.
ACCURACY = ("candidate_top1", *MAPS)

_NOISE = "within the numeric noise of a healthy float32 export"

Metrics = Mapping[str, Any]


def figure_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], pairs: tuple[Records, Records] | None, seed: int
) -> Iterator[Change]:
    """Every figure of a cell that both reports have.

    Args:
        pairs: the old and the new records, where they are of the same samples.
    """
    cell = new["id"]
    before, after = (SEVERITY.index(each["verdict"]) for each in (old, new))
    change = outcome(after > before, after < before)
    yield Change(cell, "verdict", old["verdict"], new["verdict"], change, "")
    if not old["metrics"] or not new["metrics"]:
        without = " and ".join(
            name for name, each in (("old", old), ("new", new)) if not each["metrics"]
        )
        yield Change(
            cell, "figures", None, None, "not compared", f"not measured in the {without} run"
        )
        return
    most = 0 if pairs is None else _most_boxes(pairs)
    for figure in task_of(new["stage"]).figures:
        if figure.loss:  # how good the candidate is says it, whatever the reference
            continue
        yield from _changes(figure.name, old, new, pairs, most, seed)
    for name in ACCURACY:
        yield from _changes(name, old, new, pairs, most, seed)


def _changes(
    name: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    pairs: tuple[Records, Records] | None,
    most: int,
    seed: int,
) -> Iterator[Change]:
    values = old["metrics"].get(name), new["metrics"].get(name)
    if values[0] is None or values[1] is None:
        if values != (None, None):
            run = "new" if values[0] is None else "old"
            yield Change(new["id"], name, *values, "not compared", f"in the {run} run alone")
        return
    judged = None
    if pairs is not None:
        with suppress(*NO_RECORDS):  # gone, or of a version that recorded less
            judged = compare_pairs(name, *pairs, most, seed)
    if judged is None and (name in ACCURACY or not _is_counted(find_figure(name), old, new)):
        yield Change(
            new["id"], name, *values, "not compared", "other samples, or no records of both"
        )
        return
    if judged is None:
        judged = _by_bounds(find_figure(name), old, new)
    # Beyond chance, but of no more than rounding: another machine or build sums in another order.
    small = name not in ACCURACY
    worse = judged.worse and not (small and not _drifted(new))
    better = judged.better and not (small and not _drifted(old))
    noisy = (judged.worse or judged.better) and not (worse or better)
    how = f"{judged.how}, {_NOISE}" if noisy else judged.how
    change = outcome(worse, better)
    yield Change(new["id"], name, *values, change, how, judged.low, judged.high)


def _drifted(cell: Mapping[str, Any]) -> bool:
    return drifted(cell["metrics"], cell["metrics"])


def _by_bounds(figure: Figure, old: Mapping[str, Any], new: Mapping[str, Any]) -> Judged:
    """A figure of other samples, or of which there are no records: by what each sample certifies,
    or by its size."""
    if figure.certified is not None and figure.certified.failures:
        lows, highs = zip(*(_rate(figure, each["metrics"]) for each in (old, new)), strict=True)
        how = "other samples; change between the bounds of both"
        return Judged(
            lows[1] > highs[0], highs[1] < lows[0], how, lows[1] - highs[0], highs[1] - lows[0]
        )
    floor = max(noise_of(figure, new["metrics"]), noise_of(figure, old["metrics"]))
    floor = floor if np.isfinite(floor) else 0.0
    before, after = (max(_size(each["metrics"][figure.name]), floor) for each in (old, new))
    ratio = after / before if before else np.inf if after else 1.0
    how = f"{ratio:.3g} times the other, noise aside; up to {UNPAIRED_RATIO:g} is no difference"
    return Judged(ratio > UNPAIRED_RATIO, ratio < 1 / UNPAIRED_RATIO, how)


def _is_counted(figure: Figure, *cells: Mapping[str, Any]) -> bool:
    """Whether cells say of how many a rate is; reports of earlier versions may not."""
    of = figure.certified
    names = () if of is None else (*of.failures, *of.trials)
    return all(name in cell["metrics"] for cell in cells for name in names)


def _size(value: float) -> float:
    """What is not a number is as bad as can be."""
    return math.inf if math.isnan(value) else abs(value)


def _rate(figure: Figure, metrics: Metrics) -> tuple[float, float]:
    """Lower and upper 95 % bound of a rate, each one-sided."""
    assert figure.certified is not None
    failures, trials = (
        sum(metrics[name] for name in names)
        for names in (figure.certified.failures, figure.certified.trials)
    )
    upper, none = upper_bound(failures, trials), upper_bound(trials - failures, trials)
    return 1 - (1.0 if none is None else none), 1.0 if upper is None else upper


def _most_boxes(pairs: tuple[Records, Records]) -> int:
    """More boxes than any image has, so that mAP counts all that NMS has kept."""
    if "cand_boxes_count" not in pairs[1]:
        return 0
    return 1 + max(int(records["cand_boxes_count"].max(initial=0)) for records in pairs)
