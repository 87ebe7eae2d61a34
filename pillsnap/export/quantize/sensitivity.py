"""Which layers a model in lower precision must keep in float: what each costs by itself, and the
smallest set with which the model holds its profile."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from pillsnap.export.quantize.groups import Groups, group_nodes
from pillsnap.export.quantize.trials import Loss, Trials

# Layers that a model is looked at in, and sets of them that a search runs on all images.
MOST_LAYERS, MOST_SETS = 32, 64

# A set of at most so many layers is held against all smaller ones of these.
_SMALL, _POOL = 5, 10

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Layer:
    """Nodes of one module that are lowered or kept together.

    Attributes:
        name: the beginning of their names.
        lowered: the loss, on a few images, when nothing else is lowered.
        kept: the same when everything else is; None where that was not asked for.
    """

    name: str
    nodes: tuple[str, ...]
    lowered: Loss
    kept: Loss | None


@dataclass(frozen=True)
class Sensitivity:
    """What a model's layers cost, and which to keep in float.

    Attributes:
        layers: in the graph's order; none where nothing need be kept and none were asked for.
        whole: the loss on all images with every layer lowered.
        kept: names of the layers of the smallest set that was found to hold, in the graph's order;
            None where not even one lowered layer holds.
        loss: with that set, on all images; None where there is none.
    """

    layers: tuple[Layer, ...]
    whole: Loss
    kept: tuple[str, ...] | None
    loss: Loss | None

    @property
    def kept_nodes(self) -> tuple[str, ...]:
        """Names of the nodes of that set, in the graph's order."""
        chosen = set(self.kept or ())
        return tuple(name for each in self.layers if each.name in chosen for name in each.nodes)

    @property
    def by_cost(self) -> tuple[Layer, ...]:
        """The layers, those that cost most by themselves first."""
        return tuple(sorted(self.layers, key=lambda layer: -layer.lowered.error))


def find_sensitivity(
    trials: Trials,
    *,
    describe: bool = False,
    tell: Tell | None = None,
    most_layers: int = MOST_LAYERS,
    most_sets: int = MOST_SETS,
) -> Sensitivity:
    """Measure what layers cost and search for the smallest set to keep in float.

    Layers are lowered, and with `describe` also kept, one at a time, on a few images. By each of
    the two orders the shortest beginning that holds on all images is found by doubling and
    bisection, then freed of every layer that it does not need, the cheapest first. A set of a few
    layers is last held against smaller ones of the costliest. The smaller of two sets is that of
    fewer layers, then of fewer nodes. No model is run twice.

    Args:
        describe: measure all layers even where nothing need be kept, alone kept as well.
        tell: is told what it will take before it starts.
        most_layers: see group_nodes.
        most_sets: that are run on all images; when they are used up, the smallest set so far it is.
    """
    groups = group_nodes(trials.lowering.names, most_layers, trials.lowering.heavy)
    search = _Search(trials, groups, most_sets)
    holds = search.holds(())
    whole = trials.all(())
    if holds and not describe:
        return Sensitivity((), whole, (), whole)
    if tell is not None:
        tell(_effort(trials.few(()), whole, len(groups), describe, 0 if holds else most_sets))
    everything = set(trials.lowering.names)
    layers = tuple(
        Layer(
            name,
            nodes,
            trials.few(everything - set(nodes)),
            trials.few(nodes) if describe else None,
        )
        for name, nodes in groups.items()
    )
    kept = () if holds else search.smallest(layers)
    if kept is None:
        return Sensitivity(layers, whole, None, None)
    return Sensitivity(layers, whole, kept, trials.all(search.nodes(kept)))


def _effort(few: Loss, every: Loss, layers: int, describe: bool, sets: int) -> str:
    """Such as "32 layers: 64 models on a few images, up to 64 on all; at most 310 s"."""
    alone = layers * (2 if describe else 1)
    text = f"{layers} layers: {alone} models on a few images"
    text += f", up to {sets} on all" if sets else ""
    seconds = alone * few.seconds + sets * (few.seconds + every.seconds)
    return f"{text}; at most {math.ceil(seconds)} s, less what is known of an earlier run"


class _Search:
    def __init__(self, trials: Trials, groups: Groups, most_sets: int) -> None:
        self._trials = trials
        self._groups = groups
        self._place = {name: index for index, name in enumerate(groups)}
        self._held: dict[frozenset[str], bool] = {}
        self._left = most_sets

    def nodes(self, layers: Collection[str]) -> set[str]:
        return {node for layer in layers for node in self._groups[layer]}

    def holds(self, layers: Collection[str]) -> bool:
        """Whether the model holds with these layers in float; no where no more may be asked."""
        key = frozenset(layers)
        if key not in self._held and self._left > 0:
            self._left -= 1
            self._held[key] = self._trials.holds(self.nodes(layers))
        return self._held.get(key, False)

    def smallest(self, layers: Sequence[Layer]) -> tuple[str, ...] | None:
        costly = [layer.name for layer in sorted(layers, key=lambda each: -each.lowered.error)]
        orders = [costly]
        if all(layer.kept is not None for layer in layers):
            orders.append([layer.name for layer in sorted(layers, key=_when_kept)])
        found = [
            self._without_needless(beginning, order)
            for order in orders
            if (beginning := self._beginning(order)) is not None
        ]
        if not found:
            return None
        best = min(found, key=self._size)
        while len(best) > 1 and (smaller := self._smaller(best, layers, orders)) is not None:
            best = smaller
        return tuple(sorted(best, key=self._place.__getitem__))

    def _size(self, layers: Collection[str]) -> tuple[int, int]:
        return len(layers), len(self.nodes(layers))

    def _beginning(self, order: Sequence[str]) -> list[str] | None:
        """The shortest beginning of an order that holds, as far as doubling and bisection tell."""
        low, high, most = 0, 1, len(order) - 1
        while not self.holds(order[:high]):
            if high >= most:
                return None
            low, high = high, min(2 * high, most)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.holds(order[:middle]) else (middle, high)
        return list(order[:high])

    def _without_needless(self, chosen: list[str], order: Sequence[str]) -> list[str]:
        for layer in sorted(chosen, key=order.index, reverse=True):
            rest = [each for each in chosen if each != layer]
            if rest and self.holds(rest):
                chosen = rest
        return chosen

    def _smaller(
        self, best: Sequence[str], layers: Sequence[Layer], orders: Sequence[Sequence[str]]
    ) -> list[str] | None:
        """A set of one layer less that holds, of those that are worth a try."""
        if len(best) > _SMALL:
            return None
        share = _POOL // len(orders)
        pool = list(dict.fromkeys([*(name for order in orders for name in order[:share]), *best]))
        cost = {layer.name: layer.lowered.error for layer in layers}

        def by_cost(found: tuple[str, ...]) -> float:
            return -sum(cost[name] for name in found)

        tries: Iterator[tuple[str, ...]] = combinations(pool, len(best) - 1)
        tries = iter(sorted(tries, key=by_cost))
        return next((list(found) for found in tries if self.holds(found)), None)


def _when_kept(layer: Layer) -> tuple[float, float]:
    assert layer.kept is not None
    return layer.kept.share, layer.kept.error
