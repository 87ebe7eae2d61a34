"""What a sample certifies: the one-sided 95 % upper bound of a figure, and what it would take.

Rates have the exact bound of a binomial proportion: Clopper & Pearson, "The use of confidence or
fiducial limits illustrated in the case of the binomial", Biometrika 26 (1934). mAP losses bring
theirs along, by resampling images. Pure: numbers in, numbers and words out.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from decimal import Decimal

from pillsnap.compare.limits import exceeds
from pillsnap.config.figures import find_figure

CONFIDENCE = 0.95

# A tolerance that takes more trials than this is one that no sample certifies.
MOST_TRIALS = 10**9


@dataclass(frozen=True)
class Certified:
    """What the sample of a cell supports of one figure, whatever the verdict.

    Attributes:
        certified_upper: what is not exceeded, at 95 % confidence; None without trials.
        tolerance: what the profile allows; None where it is not judged.
        certifies: the bound is within the tolerance.
        trials: boxes, samples or, of an mAP loss, images; a copy of an image counts once.
        failures: of them, that failed; None for an mAP loss.
        samples_needed: the fewest trials, with no further failure, that would certify it; None
            where the rate found is above the tolerance, or nobody can tell.
    """

    certified_upper: float | None
    tolerance: float | None
    certifies: bool | None
    trials: int
    failures: int | None = None
    samples_needed: int | None = None


def certify(failures: int, trials: int, tolerance: float | None) -> Certified:
    """What `failures` in `trials` say of a rate that may be `tolerance` at most."""
    found = certify_bound(upper_bound(failures, trials), trials, tolerance)
    needed = None
    if tolerance is not None and not (failures and exceeds(failures / trials, tolerance)):
        needed = samples_needed(tolerance, failures)
    return replace(found, failures=failures, samples_needed=needed)


def certify_bound(upper: float | None, trials: int, tolerance: float | None) -> Certified:
    """What a bound that was found in another way says of a figure; of nothing, all is possible."""
    most = 1.0 if upper is None else upper
    certifies = None if tolerance is None else not exceeds(most, tolerance)
    return Certified(upper, tolerance, certifies, trials)


def upper_bound(failures: int, trials: int) -> float | None:
    """The largest p with P(X <= failures) >= 1 - CONFIDENCE for X ~ Binomial(trials, p)."""
    if trials == 0:
        return None
    if failures >= trials:
        return 1.0
    from scipy.special import betaincinv

    # The tail is a beta distribution's survival function.
    return float(betaincinv(failures + 1, trials - failures, CONFIDENCE))


def samples_needed(tolerance: float, failures: int = 0) -> int | None:
    """The fewest trials whose bound, with that many failures, is within the tolerance."""

    def enough(trials: int) -> bool:
        bound = upper_bound(failures, trials)
        return bound is not None and not exceeds(bound, tolerance)

    if not enough(MOST_TRIALS):
        return None
    counts = range(max(1, failures), MOST_TRIALS + 1)
    return counts[bisect_left(counts, True, key=enough)]


def in_words(figure: str, found: Certified) -> str:
    """Such as "0 of 32 flipped: certifies 8.9 %; 0.1 % needs 2,995"."""
    how = find_figure(figure).certified
    if how is None:
        raise ValueError(f"no sample certifies {figure}")
    if found.failures is None:
        text = f"{how.words} over {found.trials:,} images: certifies "
    else:
        text = f"{found.failures:,} of {found.trials:,} {how.words}: certifies "
    upper = found.certified_upper
    text += "nothing" if upper is None else f"{_shown(upper, found.tolerance)} %"
    if found.tolerance is None:
        return text
    limit = f"{_percent(found.tolerance, 6)} %"
    if found.certifies:
        return f"{text}, within {limit}"
    if found.failures is None:
        return f"{text}, not {limit}"
    if found.samples_needed is None:
        return f"{text}; no sample of that rate certifies {limit}"
    more = " and no further one" if found.failures else ""
    return f"{text}; {limit} needs {found.samples_needed:,}{how.unit}{more}"


def _shown(upper: float, tolerance: float | None) -> str:
    """Two digits in percent, or as many as it takes to stand on its side of the tolerance."""
    for digits in range(2, 17):
        text = _percent(upper, digits)
        if tolerance is None or exceeds(float(text), 100 * tolerance) == exceeds(upper, tolerance):
            break
    return text


def _percent(rate: float, digits: int) -> str:
    return f"{Decimal(f'{100 * rate:.{digits}g}'):f}"
