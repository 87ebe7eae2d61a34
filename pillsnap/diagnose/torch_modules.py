"""Torch modules against the tensors of a graph, where no healthy file of the same graph exists."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pillsnap.compare.exactness import OutputPart, PartError, measure_errors
from pillsnap.compare.limits import exceeds
from pillsnap.config.figures import EXACTNESS_LIMIT
from pillsnap.diagnose.taps import TAP_BYTES, Graph, Tensors, module_path, open_taps, tap_groups
from pillsnap.engines import Batch
from pillsnap.export.quantize.graph import ancestors

if TYPE_CHECKING:
    import onnx
    import torch

# A tensor that another module makes is off by its own size; a small fault may fade behind a sum.
_OTHER = 0.1


@dataclass(frozen=True)
class TapError:
    """A tensor of the graph against the output of the module that it is: how far both are from the
    same network in float64, of the image on which the graph is least exact."""

    tensor: str
    module: str
    errors: PartError

    @property
    def agrees(self) -> bool:
        """Whether it is as exact as outputs must be: of healthy exports no tensor is above 2.2."""
        return not exceeds(self.errors.exactness, EXACTNESS_LIMIT)

    @property
    def error(self) -> float:
        """Relative to the output."""
        return self._relative(self.errors.candidate)

    @property
    def floor(self) -> float:
        """The error from which on it counts."""
        return self._relative(EXACTNESS_LIMIT * self.errors.rounding)

    def _relative(self, error: float) -> float:
        signal = self.errors.signal
        return error / signal if signal else math.inf if error else 0.0


def compare_modules(
    candidate: onnx.ModelProto,
    network: torch.nn.Module,
    images: Batch,
    *,
    threads: int,
) -> list[TapError]:
    """Compare the outputs of all modules that the graph names, in the graph's order, by the same
    measure as a cell's outputs.

    A tap that is something else while a later one that depends on it agrees was matched wrongly; it
    is left out. EngineError where the graph does not run.

    Args:
        network: in evaluation mode, on the CPU; its paths are those in the file.
        images: float32 [N,3,H,W], run one by one.
    """
    graph = Graph(candidate)
    taps = match_taps(graph, network, images[:1])
    double: torch.nn.Module = copy.deepcopy(network).double()
    worst: dict[str, PartError] = {}
    shape = (1, *images.shape[1:])
    # Of each tensor the graph's and torch's are held, and torch's in float64, which takes twice as
    # much.
    for group in tap_groups(candidate, list(taps), shape, TAP_BYTES // 4):
        run = open_taps(candidate, group, threads)
        modules = {taps[name] for name in group}
        for image in images:
            found = run(image[None])
            wanted = _outputs(network, image[None], modules)
            exact = _outputs(double, image[None].astype(np.float64), modules)
            right, ref = (
                [OutputPart(name, side[taps[name]]) for name in group] for side in (exact, wanted)
            )
            own = [OutputPart(name, found[name]) for name in group]
            for error in measure_errors(right, ref, own):
                before = worst.get(error.kind)
                if before is None or error.exactness > before.exactness:
                    worst[error.kind] = error
    errors = [
        TapError(name, module, worst[name])
        for name, module in taps.items()
        # What is not finite in torch tells nothing.
        if math.isfinite(worst[name].signal + worst[name].reference)
    ]
    return _believable(graph, errors)


def match_taps(graph: Graph, network: torch.nn.Module, image: Batch) -> dict[str, str]:
    """The tensors that hold a module's output, with its path: the last one of the module's nodes,
    if it has the output's shape. Where exporting folded BatchNorm into Conv, that is the
    BatchNorm's output."""
    calls = _calls(network, image)
    kept = any(node.op_type == "BatchNormalization" for node in graph.nodes)
    folded = {} if kept else _folded(network, list(calls))
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        path = _known(module_path(node), calls)
        while path:
            last[path] = index
            path = path.rpartition(".")[0]
        last[""] = index
    taps: dict[int, tuple[str, str]] = {}
    # The innermost module that a tensor belongs to, which has the longest path, says most of it.
    for path in sorted(calls.keys() & last.keys(), key=len):
        node = graph.nodes[last[path]]
        taps[last[path]] = node.output[0], folded.get(path, path)
    found = open_taps(graph.model, [tensor for tensor, _ in taps.values()], 1)(image)
    return {
        tensor: module
        for _, (tensor, module) in sorted(taps.items())
        if found[tensor].shape == calls[module]
    }


def _known(path: str, calls: Mapping[str, Any]) -> str:
    """A path without the wrapper that the exporter may have put around the network."""
    while path and path not in calls and path.partition(".")[2] in calls:
        path = path.partition(".")[2]
    return path


def _calls(network: torch.nn.Module, image: Batch) -> dict[str, tuple[int, ...]]:
    """Shape of the output of every module that gives one tensor and is called once, by path, in
    the order in which they end."""
    calls: dict[str, tuple[int, ...]] = {}
    twice: set[str] = set()

    def note(path: str, output: Any) -> None:
        if path in calls:
            twice.add(path)
        calls[path] = tuple(output.shape)

    _run_noting(network, image, note)
    return {path: shape for path, shape in calls.items() if path not in twice}


def _folded(network: torch.nn.Module, order: Sequence[str]) -> dict[str, str]:
    """By convolution the module that gives the output of the BatchNorm behind it. In timm's
    BatchNormAct2d, which activates as well, that is its inner `drop`."""
    import torch

    modules = dict(network.named_modules())
    norm = torch.nn.modules.batchnorm._BatchNorm
    found = {}
    for path, following in pairwise(order):
        owner = following.rpartition(".")[0]
        is_norm = isinstance(modules[following], norm) or isinstance(modules.get(owner), norm)
        if isinstance(modules[path], torch.nn.Conv2d) and is_norm:
            found[path] = following
    return found


def _outputs(network: torch.nn.Module, image: Batch, wanted: set[str]) -> Tensors:
    found: Tensors = {}

    def keep(path: str, output: Any) -> None:
        if path in wanted:
            found[path] = output.numpy().copy()  # activations may work in place

    _run_noting(network, image, keep)
    return found


def _run_noting(network: torch.nn.Module, image: Batch, note: Callable[[str, Any], None]) -> None:
    """Run a network, and `note(path, output)` whenever a module ends that gives one tensor."""
    import torch

    def hook(path: str, module: Any, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            note(path, output)

    handles = [
        module.register_forward_hook(partial(hook, path))
        for path, module in network.named_modules()
    ]
    try:
        with torch.inference_mode():
            network(torch.from_numpy(image))
    finally:
        for handle in handles:
            handle.remove()


def _believable(graph: Graph, errors: list[TapError]) -> list[TapError]:
    proven: set[int] = set()

    def known(name: str) -> bool:
        return graph.maker[name] in proven

    for item in errors:
        if item.agrees:
            index = graph.maker[item.tensor]
            proven.update(ancestors(graph.nodes, graph.maker, index, known))
    return [
        item
        for item in errors
        if item.error < _OTHER or item.agrees or graph.maker[item.tensor] not in proven
    ]
