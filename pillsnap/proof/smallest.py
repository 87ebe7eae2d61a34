"""The smallest change of a weight tensor that the strict profile still catches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pillsnap.proof.fault import Bench
from pillsnap.proof.roles import layers
from pillsnap.proof.trial import judge_injection
from pillsnap.proof.weights import scale_weight

# A tensor times 1 + scale: at the lower end float32 hardly tells it from itself.
_LOW, _HIGH = 1e-7, 1e-1

# The answer is known to within this factor.
_FACTOR = 1.3


@dataclass(frozen=True)
class Smallest:
    """Of some tensors of a stage, the smallest relative scale that is caught; None where not even
    the largest that was tried is."""

    stage: str
    samples: int
    by_tensor: dict[str, float | None]

    @property
    def of_any(self) -> float | None:
        """The scale from which on any of these tensors is caught: that of the one seen least."""
        found = list(self.by_tensor.values())
        known = [value for value in found if value is not None]
        return max(known) if known and len(known) == len(found) else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "size": "smoke",
            "samples": self.samples,
            "of_any": self.of_any,
            "by_tensor": self.by_tensor,
        }


def find_smallest(bench: Bench, threads: int, tensors: int = 3) -> Smallest:
    """Bisect the scale, at smoke size, for layers at even distances from first to last."""
    names = layers(bench.model())
    step = (len(names) - 1) / max(1, tensors - 1)
    chosen = dict.fromkeys(names[round(index * step)] for index in range(tensors))
    found = {name: _bisect(bench, name, threads) for name in chosen}
    return Smallest(bench.stage, bench.config.compare.sample_count, found)


def _bisect(bench: Bench, name: str, threads: int) -> float | None:
    low, high = _LOW, _HIGH
    if not _caught(bench, name, high, threads):
        return None
    while high / low > _FACTOR:
        middle = math.sqrt(low * high)
        if _caught(bench, name, middle, threads):
            high = middle
        else:
            low = middle
    return high


def _caught(bench: Bench, name: str, scale: float, threads: int) -> bool:
    judged = judge_injection(scale_weight(bench, name, scale), bench, "smoke", threads)
    return judged["strict"].verdict.failed
