"""What a sample certifies: the one-sided 95 % upper bound of a figure, and what it would take.

Rates have the exact bound of a binomial proportion: Clopper & Pearson, "The use of confidence or
fiducial limits illustrated in the case of the binomial", Biometrika 26 (1934). mAP deltas bring
theirs along, by resampling images. Pure: numbers in, numbers and words out.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from decimal import Decimal

from pillsnap.config.figures import find_figure

CONFIDENCE = 0.95

# A tolerance that takes more trials than this is one that no sample certifies.
MOST_TRIALS = 10**9

# Stands in for a denominator of 0 in Lentz's algorithm.
_TINY = 1e-300


@dataclass(frozen=True)
class Certified:
    """What the sample of a cell supports of one figure, whatever the verdict.

    Attributes:
        certified_upper: what is not exceeded, at 95 % confidence; None without trials.
        tolerance: what the profile allows; None where it is not judged.
        certifies: the bound is within the tolerance.
        trials: boxes, samples or, of an mAP delta, images.
        failures: of them, that failed; None for an mAP delta.
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
    possible = tolerance is not None and (not failures or failures / trials <= tolerance)
    needed = samples_needed(tolerance, failures) if possible and tolerance is not None else None
    return replace(found, failures=failures, samples_needed=needed)


def certify_bound(upper: float | None, trials: int, tolerance: float | None) -> Certified:
    """What a bound that was found in another way says of a figure; of nothing, all is possible."""
    certifies = None if tolerance is None else (1.0 if upper is None else upper) <= tolerance
    return Certified(upper, tolerance, certifies, trials)


def upper_bound(failures: int, trials: int, confidence: float = CONFIDENCE) -> float | None:
    """The largest p with P(X <= failures) >= 1 - confidence for X ~ Binomial(trials, p).

    The tail's logarithm is concave in p (it is a beta distribution's survival function), so
    Newton's steps from the left go past the root once and come down to it from then on.

    Raises:
        ValueError: a confidence below a half, where the fraction below need not converge, or of 1.
    """
    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence must be at least 0.5 and less than 1, not {confidence}")
    if trials == 0:
        return None
    if failures >= trials:
        return 1.0
    if failures == 0:
        return -math.expm1(math.log(1 - confidence) / trials)
    goal = math.log(1 - confidence)
    p = (failures + 2) / (trials + 3)  # from here on up the fraction below converges fast
    for _ in range(100):
        log_tail, slope = _log_lower_tail(failures, trials, p)
        step = (goal - log_tail) / slope
        p = min(p + step, (p + 1) / 2)
        if abs(step) <= 1e-14 * p:
            break
    return p


def samples_needed(
    tolerance: float, failures: int = 0, confidence: float = CONFIDENCE
) -> int | None:
    """The fewest trials whose bound, with that many failures, is within the tolerance."""

    def enough(trials: int) -> bool:
        bound = upper_bound(failures, trials, confidence)
        return bound is not None and bound <= tolerance

    if not enough(MOST_TRIALS):
        return None
    counts = range(max(1, failures), MOST_TRIALS + 1)
    return counts[bisect_left(counts, True, key=enough)]


def _log_lower_tail(k: int, n: int, p: float) -> tuple[float, float]:
    """log P(X <= k) for X ~ Binomial(n, p) and its derivative in p; 0 < k < n.

    The tail is the regularised incomplete beta function I_(1-p)(n - k, k + 1), by its continued
    fraction (DLMF 8.17.22, https://dlmf.nist.gov/8.17#v) in Lentz's algorithm.
    """
    a, b, x = n - k, k + 1, 1 - p
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    log_front = a * math.log1p(-p) + b * math.log(p) - math.log(a) - log_beta
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 1_000_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = fraction
        for term in (even, odd):
            c = 1 + term / c or _TINY
            d = 1 / (1 + term * d or _TINY)
            fraction *= c * d
        if abs(fraction - before) <= 1e-15 * fraction:
            break
    return log_front + math.log(fraction), -a / (x * p * fraction)


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
        if tolerance is None or (float(text) <= 100 * tolerance) == (upper <= tolerance):
            break
    return text


def _percent(rate: float, digits: int) -> str:
    return f"{Decimal(f'{100 * rate:.{digits}g}'):f}"
