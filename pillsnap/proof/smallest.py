"""The smallest change of a weight tensor that the strict profile still catches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pillsnap.proof.fault import Bench
from pillsnap.proof.onnx_edits import change
from pillsnap.proof.roles import multiplied
from pillsnap.proof.yardstick import Yardstick

# A tensor times 1 + scale: at the lower end float32 hardly tells it from itself.
_LOW, _HIGH = 1e-7, 1e-1

# The answer is known to within this factor.
_FACTOR = 1.3


@dataclass(frozen=True)
class Smallest:
    """Of every layer of a stage, the smallest relative scale of its weights that exactness catches;
    None where not even the largest that was tried is."""

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
            "samples": self.samples,
            "of_any": self.of_any,
            "by_tensor": self.by_tensor,
        }


def find_smallest(bench: Bench, threads: int) -> Smallest:
    """Bisect the scale, layer by layer; weights of zeros have none. Raises as Yardstick."""
    from onnx import numpy_helper

    yardstick = Yardstick(bench, threads)
    model = bench.model()
    alive = {each.name for each in model.graph.initializer if numpy_helper.to_array(each).any()}

    def find(name: str) -> float | None:
        def catches(scale: float) -> bool:
            scaled = change(bench.model(), name, lambda weights: weights * (1 + scale))
            return yardstick.exactness(scaled) > yardstick.limit

        return _bisect(catches)

    found = {name: find(name) for name in multiplied(model) if name in alive}
    return Smallest(bench.stage, bench.config.compare.exactness_images, found)


def _bisect(catches: Callable[[float], bool]) -> float | None:
    low, high = _LOW, _HIGH
    if not catches(high):
        return None
    while high / low > _FACTOR:
        middle = math.sqrt(low * high)
        if catches(middle):
            high = middle
        else:
            low = middle
    return high
