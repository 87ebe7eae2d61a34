"""Node by node against a healthy export of the same graph: the sharpest way to find a fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pillsnap.core.hashes import sha256_json
from pillsnap.diagnose.taps import TAP_BYTES, Graph, open_taps, relative_error, tap_groups
from pillsnap.engines import Batch

if TYPE_CHECKING:
    import onnx

ROUNDING = 2e-6
"""Relative error that one operator's rounding may add: two kernels that sum in another order."""

AMPLIFIED = 100.0
"""How much one healthy operator may enlarge the relative error of its inputs."""

# Of the healthy file's tensors so many must be found again for the two to be one graph, and so many
# of those must be made by the same operator: names like val_12 mean nothing in another file.
_LEAST_MATCHED, _LEAST_ALIKE = 0.5, 0.9


@dataclass(frozen=True)
class Divergence:
    """Where a graph leaves a healthy one.

    Attributes:
        compared: tensors that both files have, in the healthy file's order, with their error.
        origins: indices of the healthy nodes that differ though their inputs agree.
    """

    healthy: Graph
    compared: dict[str, float]
    origins: tuple[int, ...]

    def bracket(self, index: int) -> list[onnx.NodeProto]:
        """The healthy nodes that one of `origins` stands for: itself, and before it those that the
        candidate has not."""
        found = self.healthy.between(index, lambda name: name in self.compared)
        return [self.healthy.nodes[i] for i in found]


def compare_twins(
    candidate: onnx.ModelProto,
    healthy: onnx.ModelProto,
    images: Batch,
    *,
    threads: int,
) -> Divergence | None:
    """Run both graphs on the same images and walk their common tensors in topological order.

    A node diverges if its error is more than ROUNDING, and more than AMPLIFIED times that of its
    inputs. Both run on one runtime with nothing fused, so what is healthy is mostly equal to the
    bit. Where no node diverges though outputs differ, the first that is not equal is named.
    EngineError where one of them does not run.

    Args:
        images: float32 [N,3,H,W], run one by one.

    Returns:
        None where the two are not of one graph: another exporter, fused or quantised.
    """
    ours, theirs = Graph(healthy), Graph(candidate)
    names = _match(ours, theirs)
    if len(names) < _LEAST_MATCHED * len(ours.maker):
        return None
    errors: dict[str, float] = {}
    shape = (1, *images.shape[1:])
    for group in tap_groups(healthy, list(names), shape, TAP_BYTES // 2):
        theirs_names = [names[name] for name in group]
        for image in images:
            # One session at a time: each holds a copy of the model.
            wanted = open_taps(healthy, group, threads)(image[None])
            found = open_taps(candidate, theirs_names, threads)(image[None])
            for name in group:
                error = relative_error(found[names[name]], wanted[name])
                errors[name] = max(error, errors.get(name, 0.0))
    compared = {name: errors[name] for name in names}
    return Divergence(ours, compared, _origins(ours, compared))


def _origins(graph: Graph, errors: dict[str, float]) -> tuple[int, ...]:
    inherited: dict[int, float] = {}
    first_unequal: list[int] = []
    origins = []
    for index, node in enumerate(graph.nodes):
        before = 0.0
        for name in node.input:
            if name in errors:
                before = max(before, errors[name])
            elif name in graph.maker:
                before = max(before, inherited[graph.maker[name]])
        inherited[index] = before
        error = max((errors[name] for name in node.output if name in errors), default=0.0)
        if error > max(ROUNDING, AMPLIFIED * before):
            origins.append(index)
        if error > 0 and not first_unequal:
            first_unequal.append(index)
    outputs = (value.name for value in graph.model.graph.output)
    wrong = any(errors.get(name, 0.0) > ROUNDING for name in outputs)
    return tuple(origins or (first_unequal if wrong else ()))


def _match(healthy: Graph, candidate: Graph) -> dict[str, str]:
    """The candidate's name of each tensor of the healthy file: the same name; where names are other
    or mean other things, the same place in the same structure."""
    same = {name: name for name in healthy.maker if name in candidate.maker}
    alike = [name for name in same if healthy.operator(name) == candidate.operator(name)]
    if len(same) >= _LEAST_MATCHED * len(healthy.maker) and len(alike) >= _LEAST_ALIKE * len(same):
        return same
    ours, theirs = _structure(healthy), _structure(candidate)
    by_place = {place: name for name, place in theirs.items()}
    return {name: by_place[place] for name, place in ours.items() if place in by_place}


def _structure(graph: Graph) -> dict[str, tuple[str, int]]:
    """Per tensor a hash of all operators it is computed by, and its number among equals."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.model.graph.initializer}
    inputs = [value.name for value in graph.model.graph.input]
    known: dict[str, str] = {}
    count: dict[str, int] = {}
    places: dict[str, tuple[str, int]] = {}

    def describe(names: Sequence[str]) -> list[object]:
        return [
            known.get(name) or shapes.get(name) or ("input" if name in inputs else "constant")
            for name in names
        ]

    for node in graph.nodes:
        for position, name in enumerate(node.output):
            digest = sha256_json([node.op_type, position, describe(node.input)])
            known[name] = digest
            places[name] = (digest, count.get(digest, 0))
            count[digest] = count.get(digest, 0) + 1
    return places
