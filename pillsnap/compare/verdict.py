"""Figures and tolerances -> verdict. Pure: no files, no engines, no pytest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pillsnap.compare.certify import Certified, certify, certify_bound, in_words
from pillsnap.compare.drift import drifted, gains, held, is_exact, limit_of
from pillsnap.compare.figures import Figures, Metrics
from pillsnap.compare.limits import exceeds
from pillsnap.config.figures import EXACTNESS, FIGURES, Figure
from pillsnap.config.tolerances import Profiles, Tolerances

VerdictName = Literal["equivalent", "within_tolerance", "breach", "inconclusive"]

# From fine to coarse: a breach names the first of these that would have held.
LOOSER = ("practical", "fp16", "int8")

# Ends the name of a figure that breaches for want of samples.
CERTIFIED = "_certified"

# What breaches where a file of pillsnap's own is not what it exports; where: the first difference.
GRAPH = "graph_differences"

# Figures that judge a candidate without any signal in the reference.
_EXACT = {GRAPH, *(figure.name for figure in FIGURES if figure.limited_by == EXACTNESS)}

# Where a figure of speed or memory breaches.
BUDGET = "budget"

# Where a figure breaches by what images are answered in other batches than the cell's.
BATCH = "the same images in other batches"

_LOSSES = {figure.name for figure in FIGURES if figure.loss}


@dataclass(frozen=True)
class Breach:
    """One figure outside its tolerance, and where it was found (a stride, say); of mAP the loss."""

    figure: str
    value: float
    limit: float
    where: str = ""

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        digits = ".3g" if f"{self.value:.3g}" != f"{self.limit:.3g}" else ".9g"
        value = f"{self.value:{digits}}"
        if self.figure in _LOSSES:
            value = f"-{value}, a loss"
        return f"{self.figure} {value} > {self.limit:{digits}}{place}"


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a cell.

    Attributes:
        name: equivalent, within_tolerance, breach or inconclusive.
        breaches: every figure outside the profile.
        reason: in words; empty when there is nothing to explain.
        looser: the first looser profile that would have held, for a breach.
    """

    name: VerdictName
    breaches: tuple[Breach, ...] = ()
    reason: str = ""
    looser: str | None = None

    @property
    def failed(self) -> bool:
        return self.name in ("breach", "inconclusive")


def profile_for(precision: str, profiles: Profiles) -> str:
    """Name of the profile a cell is held to: fp32 the configured one, the others their own."""
    return profiles.profile if precision == "fp32" else precision


def judge(
    figures: Figures,
    profiles: Profiles,
    profile: str,
    *,
    gate_strict: bool = False,
    classes_required: bool = False,
    over_budget: tuple[Breach, ...] = (),
    batch_drift: Mapping[str, float] | None = None,
) -> Verdict:
    """Judge a whole cell. The number of samples never changes the verdict, but for `gate_strict`:
    then the sample of a cell that would pass must also certify its tolerances.

    Without signal in the reference, drift proves nothing of the export: an untrained network can
    blow rounding up to any size. Its figures are named all the same. What breaches even then needs
    no signal: a candidate that is not finite where the reference is, and one that is less exact
    than torch, whose own rounding is blown up alike.

    Args:
        classes_required: classes that coverage asked for and did not find are a breach.
        over_budget: of find_over_budget; breaches of any profile.
        batch_drift: how far images are from what they are answered in other batches, by figure:
            the profile holds there as it does against the reference.
    """
    metrics = figures.metrics
    missing = metrics.get("classes_missing") if classes_required else None

    def outside(name: str) -> tuple[Breach, ...]:
        lacking = (Breach("classes_missing", missing, 0),) if missing else ()
        tolerances = getattr(profiles, name)
        batched = find_batch_breaches(metrics, batch_drift or {}, tolerances)
        return find_breaches(metrics, tolerances) + batched + lacking + over_budget

    def uncertified(name: str) -> tuple[tuple[Breach, str], ...]:
        return find_uncertified(metrics, getattr(profiles, name)) if gate_strict else ()

    breaches = outside(profile)
    inexact = any(breach.figure in _EXACT for breach in breaches)
    if figures.no_signal is not None and not metrics["non_finite"] and not inexact:
        named = f"; outside its profile: {_listed(breaches)}" if breaches else ""
        exact = "; the arithmetic is as exact as torch's" if is_exact(metrics) else ""
        return Verdict("inconclusive", breaches, figures.no_signal + exact + named)
    reason = _listed(breaches)
    if not breaches and (lacking := uncertified(profile)):
        breaches = tuple(breach for breach, _ in lacking)
        reason = "; ".join(f"{breach} ({words})" for breach, words in lacking)
    if breaches:
        looser = next(
            (name for name in LOOSER if not outside(name) and not uncertified(name)), None
        )
        return Verdict("breach", breaches, reason, looser)
    gained = gains(metrics, getattr(profiles, profile))
    beyond_noise = gained or drifted(metrics, metrics) or drifted(batch_drift or {}, metrics)
    return Verdict("within_tolerance" if beyond_noise else "equivalent", reason="; ".join(gained))


def certified(metrics: Metrics, tolerances: Tolerances) -> dict[str, Certified]:
    """What the sample certifies of every rate and mAP loss that was measured, by figure."""
    found = {}
    for figure in sorted(FIGURES, key=_is_resampled):
        how = figure.certified
        limit = getattr(tolerances, figure.limited_by)
        if how is None:
            continue
        if _is_resampled(figure):
            if metrics.get(figure.name) is not None:
                upper, images = metrics[f"{figure.name}_upper"], metrics["map_distinct_images"]
                found[figure.name] = certify_bound(upper, images, limit)
        # Boxes are no independent trials, since they share images and a pair counts on both sides:
        # take their bound as a lower limit of what the sample leaves open.
        elif metrics.keys() >= {*how.failures, *how.trials}:
            failures, trials = (
                sum(metrics[name] for name in names) for names in (how.failures, how.trials)
            )
            found[figure.name] = certify(failures, trials, limit)
    return found


def _is_resampled(figure: Figure) -> bool:
    """Whether a figure's bound is found over images, not by a rate's failures."""
    return figure.certified is not None and not figure.certified.failures


def find_uncertified(metrics: Metrics, tolerances: Tolerances) -> tuple[tuple[Breach, str], ...]:
    """Every figure whose tolerance the sample does not certify, and in words what it would take."""
    return tuple(
        (
            # Of nothing, any rate is possible.
            Breach(
                f"{figure}{CERTIFIED}",
                1.0 if found.certified_upper is None else found.certified_upper,
                limit,
            ),
            in_words(figure, found),
        )
        for figure, found in certified(metrics, tolerances).items()
        if (limit := found.tolerance) is not None and not found.certifies
    )


def find_over_budget(performance: Metrics, budgets: Mapping[str, float]) -> tuple[Breach, ...]:
    """Every figure of speed or memory above its budget, or without a value; none of them where
    workers contended for the machine."""
    if performance["contended"]:
        return ()
    return tuple(
        Breach(name, value, limit, BUDGET)
        for name, limit in budgets.items()
        if exceeds(value := math.inf if performance[name] is None else performance[name], limit)
    )


def find_batch_breaches(
    metrics: Metrics, batch_drift: Mapping[str, float], tolerances: Tolerances
) -> tuple[Breach, ...]:
    """Every figure by which images differ too much from their answers in other batches."""
    return tuple(
        Breach(figure.name, value, limit, BATCH)
        for figure in FIGURES
        if (limit := limit_of(figure, tolerances, metrics)) is not None
        and exceeds(value := batch_drift.get(figure.name, 0.0), limit)
    )


def concerns_outputs(breaches: Iterable[Breach]) -> bool:
    """Whether any breach is about what the candidate answers: not speed, memory, or samples."""
    return any(
        breach.where != BUDGET
        and breach.figure != "classes_missing"
        and not breach.figure.endswith(CERTIFIED)
        for breach in breaches
    )


def _listed(breaches: tuple[Breach, ...]) -> str:
    return "; ".join(map(str, breaches))


def find_breaches(metrics: Metrics, tolerances: Tolerances) -> tuple[Breach, ...]:
    """Every figure of `metrics` that lies outside `tolerances`. A candidate that is not finite
    breaches whatever the profile says."""
    found = [Breach("non_finite", metrics["non_finite"], 0)] if metrics["non_finite"] else []
    found += [
        Breach(figure.name, value, limit, where)
        for figure, value, limit, where in held(metrics, tolerances)
        if exceeds(value, limit)
    ]
    return tuple(found)
