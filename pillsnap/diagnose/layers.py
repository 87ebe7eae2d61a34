"""The first layer at which a candidate's graph leaves the trained network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pillsnap.diagnose.node_by_node import ROUNDING, Divergence, compare_twins
from pillsnap.diagnose.taps import Graph, module_path
from pillsnap.diagnose.torch_modules import compare_modules
from pillsnap.engines import Batch

if TYPE_CHECKING:
    import onnx
    import torch

# A curve is drawn with so many points at most.
_POINTS = 64
# So many of several faults, and of the nodes of a bracket, are named.
_ORIGINS, _NODES = 5, 8


@dataclass(frozen=True)
class Place:
    """Where a graph goes wrong.

    Attributes:
        node, op_type, module: of the first node that differs, in the healthy file's terms where
            there is one; module is "" where the file does not tell.
        bracket: names of the nodes of which one is at fault, at most _NODES.
        bracket_size: how many they are.
        relative_error: largest difference over largest value of the node's output; against torch's
            modules root mean squares, of the difference from float64.
    """

    node: str
    op_type: str
    module: str
    bracket: tuple[str, ...]
    bracket_size: int
    relative_error: float


@dataclass(frozen=True)
class Located:
    """What was found.

    Attributes:
        method: "healthy export", node by node; or "torch modules".
        compared: how many tensors were.
        floor: the relative error beyond which the first place differs.
        places: those that differ though what feeds them agrees; the first in the graph's order
            comes first. Empty where nothing differs.
        curve: (share of the depth 0..1, relative error), the largest of each stretch.
    """

    method: str
    compared: int
    floor: float
    places: tuple[Place, ...]
    curve: tuple[tuple[float, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain builtins, for the report."""
        return {
            **asdict(self),
            "places": [{**asdict(p), "bracket": list(p.bracket)} for p in self.places],
            "curve": [list(point) for point in self.curve],
        }


def locate(
    candidate: onnx.ModelProto,
    healthy: onnx.ModelProto | None,
    load_network: Callable[[], torch.nn.Module] | None,
    images: Batch,
    *,
    threads: int,
) -> Located | None:
    """Find the first layer that differs: by a healthy export of the same graph, and where there is
    none, or it does the same, by the modules of the trained network. EngineError where a graph does
    not run.

    Args:
        load_network: gives the trained network as exporters see it, on the CPU.
        images: float32 [N,3,H,W].

    Returns:
        None where neither can be compared with the candidate.
    """
    twin = None
    if healthy is not None:
        twin = compare_twins(candidate, healthy, images, threads=threads)
        if twin is not None and twin.origins:
            return _by_twin(twin)
    if load_network is None:
        return None if twin is None else _by_twin(twin)
    return _by_modules(candidate, load_network(), images, threads)


def _by_twin(found: Divergence) -> Located:
    places = []
    for index in found.origins[:_ORIGINS]:
        node = found.healthy.nodes[index]
        error = max(found.compared.get(name, 0.0) for name in node.output)
        places.append(_place(node, found.bracket(index), error))
    curve = _curve(list(found.compared.values()))
    return Located("healthy export", len(found.compared), ROUNDING, tuple(places), curve)


def _by_modules(
    candidate: onnx.ModelProto, network: torch.nn.Module, images: Batch, threads: int
) -> Located | None:
    errors = compare_modules(candidate, network, images, threads=threads)
    if not errors:
        return None
    graph = Graph(candidate)
    agreed = {item.tensor for item in errors if item.agrees}
    wrong = {graph.maker[item.tensor]: item for item in errors if not item.agrees}
    places = []
    for index, item in wrong.items():
        bracket = graph.between(index, agreed.__contains__)
        # One that another wrong tap leads to says nothing of its own.
        if not wrong.keys() & set(bracket) - {index}:
            nodes = [graph.nodes[i] for i in bracket]
            places.append((item.floor, _place(graph.nodes[index], nodes, item.error)))
    places = places[:_ORIGINS]
    floor = places[0][0] if places else max(item.floor for item in errors)
    curve = _curve([item.error for item in errors])
    return Located("torch modules", len(errors), floor, tuple(place for _, place in places), curve)


def _place(node: onnx.NodeProto, bracket: list[onnx.NodeProto], error: float) -> Place:
    names = tuple(_name(item) for item in bracket[-_NODES:])
    return Place(_name(node), node.op_type, module_path(node), names, len(bracket), error)


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])


def _curve(errors: list[float]) -> tuple[tuple[float, float], ...]:
    stretch = max(1, math.ceil(len(errors) / _POINTS))
    return tuple(
        (round(start / len(errors), 4), max(errors[start : start + stretch]))
        for start in range(0, len(errors), stretch)
    )
