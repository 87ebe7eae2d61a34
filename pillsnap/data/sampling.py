"""Which validation samples a mode verifies: seeded, and the same list on every machine."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pillsnap.config.settings import Compare
from pillsnap.data.copies import SeenFiles
from pillsnap.data.datasets import Sample

_Ints = NDArray[np.int64]

# Part of a smoke sample of scenes that has labelled boxes, where there are so many.
BOXED = 0.25


def select(samples: Sequence[Sample], compare: Compare, mode: str) -> list[Sample]:
    """The samples of a mode, sorted by id; the order of the input plays no part.

    smoke: compare.sample_count, in proportion to the strata and drawn at random within them, so
    that rates over the sample estimate those of the whole; but a quarter of them have labelled
    boxes, where the data have so many: background alone has no box to compare. coverage:
    compare.per_class_k of each stratum, at most compare.max_total in all, one round over the strata
    after the other, copies of an image only where a stratum has too few others. full: all. Where
    there are fewer than asked for, all of them.

    A stratum is a class, or for scenes the classes present and the number of boxes.
    """
    ordered = sorted(samples, key=lambda sample: sample.id)
    if mode == "full" or not ordered:
        return ordered
    rng = _rng(compare)
    if mode == "smoke":
        by_class = "class" in compare.stratify_by
        strata = _strata(ordered) if by_class else np.zeros(len(ordered), np.int64)
        quotas = _share(np.bincount(strata), compare.sample_count, rng)
        chosen = np.flatnonzero(_places(strata, rng) < quotas[strata])
        chosen = _with_boxes(chosen, ordered, rng)
    elif mode == "coverage":
        strata = _strata(ordered)
        places = _places(strata, rng)
        turn = rng.permutation(int(strata.max()) + 1)
        chosen = _balanced(ordered, strata, places, turn, compare)
    else:
        raise ValueError(f"no such mode: {mode}")
    return [ordered[index] for index in chosen]


def _with_boxes(chosen: _Ints, ordered: Sequence[Sample], rng: np.random.Generator) -> _Ints:
    """The chosen samples, some of them in exchange for others until BOXED of them show boxes."""
    boxed = np.array([bool(sample.boxes) for sample in ordered])
    wanted = min(int(boxed.sum()), math.ceil(BOXED * len(chosen)))
    lacking = max(0, wanted - int(boxed[chosen].sum()))
    if not lacking:
        return chosen
    others = np.setdiff1d(np.flatnonzero(boxed), chosen)
    gone = rng.permutation(chosen[~boxed[chosen]])[:lacking]
    return np.sort([*np.setdiff1d(chosen, gone), *rng.permutation(others)[:lacking]])


def _balanced(
    ordered: Sequence[Sample], strata: _Ints, places: _Ints, turn: _Ints, compare: Compare
) -> _Ints:
    """compare.per_class_k samples of each stratum, compare.max_total in all, one round over the
    strata in their turn after the other; copies of an image come last."""
    seen, taken = SeenFiles(), [0] * len(turn)
    chosen: list[int] = []
    copies: list[int] = []

    def take(indices: Iterable[int], *, again: bool = False) -> None:
        for index in indices:
            stratum = strata[index]
            if len(chosen) == compare.max_total:
                return
            if taken[stratum] == compare.per_class_k:
                continue
            if not again and seen.is_copy(ordered[index].path, stratum):
                copies.append(index)
                continue
            chosen.append(index)
            taken[stratum] += 1

    def in_rounds(among: NDArray[np.bool_]) -> list[int]:
        indices = np.flatnonzero(among)
        order: list[int] = indices[np.lexsort((turn[strata[indices]], places[indices]))].tolist()
        return order

    first = places < compare.per_class_k
    take(in_rounds(first))
    if copies:
        take(in_rounds(~first & np.isin(strata, strata[copies])))
        take(copies, again=True)
    return np.sort(chosen)


def hard_pool(samples: Sequence[Sample], compare: Compare) -> list[Sample]:
    """The samples that are scored to find hard ones: compare.hard_pool drawn at random, by id."""
    ordered = sorted(samples, key=lambda sample: sample.id)
    drawn = _rng(compare).permutation(len(ordered))[: compare.hard_pool]
    return [ordered[index] for index in np.sort(drawn)]


def select_hard(
    pool: Sequence[Sample], top_probability: NDArray[np.float64], compare: Compare
) -> list[Sample]:
    """compare.hard_per_bin samples, or all there are, of each bin of compare.hardness_bins.

    Args:
        top_probability: [N], the reference's top-1 probability. A bin holds its lower edge, and
            the last one its upper edge too, as in numpy.histogram.

    Returns:
        The samples, sorted by id.
    """
    edges = compare.hardness_bins
    bins = np.searchsorted(edges, top_probability, side="right") - 1
    bins[top_probability == edges[-1]] = len(edges) - 2
    inside = np.flatnonzero((bins >= 0) & (bins < len(edges) - 1))
    places = _places(bins[inside], _rng(compare))
    chosen = inside[places < compare.hard_per_bin]
    return [pool[index] for index in chosen]


def _rng(compare: Compare) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([compare.seed]))


def _strata(ordered: Sequence[Sample]) -> _Ints:
    """Number of the stratum of each sample, counted as they appear. [N]"""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(_stratum(sample), len(numbers)) for sample in ordered])


def _stratum(sample: Sample) -> Hashable:
    if sample.boxes is None:
        return sample.label
    return frozenset(box.class_id for box in sample.boxes), len(sample.boxes)


def _places(strata: _Ints, rng: np.random.Generator) -> _Ints:
    """Place of each sample in its shuffled stratum, from 0. [N]"""
    if not len(strata):
        return strata
    sizes = np.bincount(strata)
    order = np.lexsort((rng.permutation(len(strata)), strata))
    starts = np.cumsum(sizes) - sizes
    places = np.empty_like(strata)
    places[order] = np.arange(len(strata)) - starts[strata[order]]
    return places


def _share(sizes: _Ints, count: int, rng: np.random.Generator) -> _Ints:
    """How many samples each stratum gives: its proportional share, rounded down or up. [S]

    What rounding down leaves goes to strata drawn with the probability of their remainder, by
    systematic sampling in random order (Madow 1949). Giving it to the largest remainders would
    never draw a rare class: with 5,000 classes and 32 samples every share is below one.
    """
    total = int(sizes.sum())
    shares, remainders = np.divmod(sizes * min(count, total), total)
    order = rng.permutation(len(sizes))
    left = int(remainders.sum()) // total
    points = rng.integers(total) + total * np.arange(left)
    drawn = order[np.searchsorted(np.cumsum(remainders[order]), points, side="right")]
    shares[drawn] += 1
    return shares
