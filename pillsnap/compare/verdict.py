"""Figures and tolerances -> verdict. Pure: no files, no engines, no pytest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Literal

from pillsnap.compare import noise
from pillsnap.compare.certify import Certified, certify, certify_bound, in_words
from pillsnap.compare.figures import Figures, Metrics
from pillsnap.config.tolerances import Profiles, Tolerances

VerdictName = Literal["equivalent", "within_tolerance", "breach", "inconclusive"]

# From fine to coarse: a breach names the first of these that would have held.
LOOSER = ("practical", "fp16", "int8")

# Ends the name of a figure that breaches for want of samples.
CERTIFIED = "_certified"

# Where a figure of speed or memory breaches.
BUDGET = "budget"

# Rates of which a sample certifies a bound: the counts of failures and trials that add up to each.
# Boxes are no independent trials, since they share images and a pair counts on both sides: take
# their bound as a lower limit of what the sample leaves open.
RATES = {
    "top1_mismatch_rate": (("top1_judged_flips",), ("top1_judged_samples",)),
    "unmatched_rate": (
        ("reference_only", "candidate_only"),
        ("reference_boxes", "candidate_boxes"),
    ),
}

# Figures whose bound was found by resampling: the tolerance, the bound, and of how many images.
RESAMPLED = {
    name: ("map_delta", f"{name}_upper", "map_images")
    for name in ("map_0_5_delta", "map_0_5_0_95_delta")
}


@dataclass(frozen=True)
class Breach:
    """One figure outside its tolerance, and where it was found (a stride, say)."""

    figure: str
    value: float
    limit: float
    where: str = ""

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        digits = ".3g" if f"{self.value:.3g}" != f"{self.limit:.3g}" else ".9g"
        return f"{self.figure} {self.value:{digits}} > {self.limit:{digits}}{place}"


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
) -> Verdict:
    """Judge a whole cell. The number of samples never changes the verdict, but for `gate_strict`:
    then the sample of a cell that would pass must also certify its tolerances.

    Without signal in the reference, drift proves nothing of the export: an untrained network can
    blow rounding up to any size. Its figures are named all the same. Only a candidate that is not
    finite where the reference is breaches even then.

    Args:
        classes_required: classes that coverage asked for and did not find are a breach.
        over_budget: of find_over_budget; breaches of any profile.
    """
    metrics = figures.metrics
    missing = metrics.get("classes_missing") if classes_required else None

    def outside(name: str) -> tuple[Breach, ...]:
        lacking = (Breach("classes_missing", missing, 0),) if missing else ()
        return find_breaches(metrics, getattr(profiles, name)) + lacking + over_budget

    def uncertified(name: str) -> tuple[tuple[Breach, str], ...]:
        return find_uncertified(metrics, getattr(profiles, name)) if gate_strict else ()

    breaches = outside(profile)
    if figures.no_signal is not None and not metrics["non_finite"]:
        named = f"; outside its profile: {_listed(breaches)}" if breaches else ""
        return Verdict("inconclusive", breaches, figures.no_signal + named)
    reason = _listed(breaches)
    if not breaches and (lacking := uncertified(profile)):
        breaches = tuple(breach for breach, _ in lacking)
        reason = "; ".join(f"{breach} ({words})" for breach, words in lacking)
    if breaches:
        looser = next(
            (name for name in LOOSER if not outside(name) and not uncertified(name)), None
        )
        return Verdict("breach", breaches, reason, looser)
    return Verdict("within_tolerance" if _drifted(metrics) else "equivalent")


def certified(metrics: Metrics, tolerances: Tolerances) -> dict[str, Certified]:
    """What the sample certifies of every rate and mAP delta that was measured, by figure."""
    found = {}
    for figure, (failures, trials) in RATES.items():
        if metrics.keys() >= {*failures, *trials}:
            found[figure] = certify(
                sum(metrics[name] for name in failures),
                sum(metrics[name] for name in trials),
                getattr(tolerances, figure),
            )
    for figure, (tolerance, upper, images) in RESAMPLED.items():
        if metrics.get(figure) is not None:
            limit = getattr(tolerances, tolerance)
            found[figure] = certify_bound(metrics[upper], metrics[images], limit)
    return found


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
        if (value := math.inf if performance[name] is None else performance[name]) > limit
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
    """Every figure of `metrics` that lies outside `tolerances`.

    A candidate that is not finite, or changes the class of an anchor whose reference is no near tie
    while raw scores are judged, breaches whatever the profile says.
    """
    found = [Breach("non_finite", metrics["non_finite"], 0)] if metrics["non_finite"] else []
    for item in fields(tolerances):
        limit = getattr(tolerances, item.name)
        if limit is None:
            continue
        for figure, value, where in _values(item.name, metrics):
            if value is not None and value > limit:
                found.append(Breach(figure, value, limit, where))
    if tolerances.raw_score_err is not None and metrics.get("class_flips"):
        found.append(Breach("class_flips", metrics["class_flips"], 0))
    return tuple(found)


def _values(tolerance: str, metrics: Metrics) -> Iterator[tuple[str, float | None, str]]:
    """The figures a tolerance bounds: (name, value, where it was found)."""
    if tolerance == "map_delta":
        for name in ("map_0_5_delta", "map_0_5_0_95_delta"):
            delta = metrics.get(name)
            yield name, None if delta is None else abs(delta), ""
    elif tolerance in ("raw_box_err_px", "raw_score_err"):
        for row in metrics.get("per_stride", ()):
            yield tolerance, row[tolerance], f"stride {row['stride']}"
    else:
        yield tolerance, metrics.get(tolerance), ""


def _drifted(metrics: Metrics) -> bool:
    """Whether a cell shows more than the numeric noise of a healthy float32 export."""
    limits: Mapping[str, float] = {
        "prob_err_max": noise.PROBABILITY,
        "raw_box_err_px": noise.BOX_PX,
        "raw_score_err": noise.SCORE,
        "top1_mismatch_rate": 0,
        "class_flips": 0,
    }
    return any((metrics.get(name) or 0) > limit for name, limit in limits.items())
