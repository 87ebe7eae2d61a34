"""Which stage of a pipeline the final difference comes from, in percent.

Each stage is the reference's or the candidate's; the difference of every such mixture from the pure
reference is a game whose players are the stages. Their Shapley values (L. S. Shapley, A value for
n-person games, 1953) share out the whole difference, and depend on no order of swapping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

State = Any
"""What one stage hands to the next: images, a batch, logits, boxes."""

Step = Callable[[State], State]


@dataclass(frozen=True)
class Stage:
    """One stage of both pipelines. Where both sides are one object, nothing is swapped."""

    name: str
    reference: Step
    candidate: Step

    @property
    def same(self) -> bool:
        return self.reference is self.candidate


@dataclass(frozen=True)
class Budget:
    """Where the final difference comes from.

    Attributes:
        total: the difference of the candidate's pipeline from the reference's.
        percent: of it by stage, in order; they add up to 100, and one that takes back what others
            add is negative. None where there is no difference.
        unit: of the total, as in "0.2 boxes an image".
    """

    total: float
    percent: dict[str, float] | None
    unit: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def share_difference(
    stages: Sequence[Stage], start: State, distance: Callable[[State, State], float]
) -> Budget:
    """Attribute the difference of two pipelines to their stages.

    With k stages that differ, the i-th of them runs 2^i times and what follows 2^k times.

    Args:
        start: what the first stage gets, the same on both sides.
        distance: of a final state from the reference's, at least 0. One that is not finite counts
            as the largest of the others, doubled.
    """
    finals = _mixtures(stages, start)
    reference = finals[frozenset()]
    differing = [stage.name for stage in stages if not stage.same]
    costs = {mixture: distance(reference, final) for mixture, final in finals.items()}
    largest = max((cost for cost in costs.values() if math.isfinite(cost)), default=0.0)
    costs = {
        mixture: cost if math.isfinite(cost) else 2 * largest or 1.0
        for mixture, cost in costs.items()
    }
    total = costs[frozenset(differing)]
    if not any(costs.values()):
        return Budget(0.0, None)
    values = {name: _shapley(name, differing, costs) for name in differing}
    whole = math.fsum(values.values())
    if not whole:  # the stages cancel out
        return Budget(total, None)
    return Budget(
        total,
        {stage.name: round(100 * values.get(stage.name, 0.0) / whole, 2) for stage in stages},
    )


def _mixtures(stages: Sequence[Stage], start: State) -> dict[frozenset[str], State]:
    """The final state by the set of stages that are the candidate's."""
    states: dict[frozenset[str], State] = {frozenset(): start}
    for stage in stages:
        following = {}
        for mixture, state in states.items():
            following[mixture] = stage.reference(state)
            if not stage.same:
                following[mixture | {stage.name}] = stage.candidate(state)
        states = following
    return states


def _shapley(name: str, names: Sequence[str], costs: dict[frozenset[str], float]) -> float:
    count = len(names)
    value = 0.0
    for mixture, cost in costs.items():
        if name not in mixture:
            size = len(mixture)
            weight = math.factorial(size) * math.factorial(count - size - 1)
            value += weight / math.factorial(count) * (costs[mixture | {name}] - cost)
    return value
