"""Torch modules against the tensors of a graph, where no healthy file of the same graph exists."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pillsnap.diagnose.taps import (
    TAP_BYTES,
    Graph,
    Tensors,
    module_path,
    open_taps,
    relative_error,
    tap_groups,
)
from pillsnap.engines import Batch
from pillsnap.export.quantize.graph import ancestors

if TYPE_CHECKING:
    import onnx
    import torch

FLOOR = 1e-5
"""Relative error below which a tap agrees, whatever torch's own noise there."""

OVER_NOISE = 20.0
"""A tap also agrees within so many times torch's difference from itself in other memory formats."""


@dataclass(frozen=True)
class TapError:
    """How far a tensor of the graph is from the output of the module that it is, and from how far
    on that counts; relative errors."""

    tensor: str
    module: str
    error: float
    floor: float

    @property
    def agrees(self) -> bool:
        return self.error <= self.floor


def compare_modules(
    candidate: onnx.ModelProto,
    network: torch.nn.Module,
    images: Batch,
    *,
    threads: int,
) -> list[TapError]:
    """Compare the outputs of all modules that the graph names, in the graph's order.

    A tap that differs while a later one that depends on it agrees was matched wrongly; it is left
    out. EngineError where the graph does not run.

    Args:
        network: in evaluation mode, on the CPU; its paths are those in the file.
        images: float32 [N,3,H,W], run one by one.
    """
    import torch

    graph = Graph(candidate)
    taps = match_taps(graph, network, images[:1])
    convert: Callable[..., torch.nn.Module] = copy.deepcopy(network).to
    other = convert(memory_format=torch.channels_last)
    errors: dict[str, tuple[float, float]] = {}
    shape = (1, *images.shape[1:])
    # Three copies of each tensor are held: the graph's, torch's and that of torch's other format.
    for group in tap_groups(candidate, list(taps), shape, TAP_BYTES // 3):
        run = open_taps(candidate, group, threads)
        wanted_names = {taps[name] for name in group}
        for image in images:
            found = run(image[None])
            wanted = _outputs(network, image[None], wanted_names)
            noisy = _outputs(other, image[None], wanted_names)
            for name in group:
                module = taps[name]
                error = relative_error(found[name], wanted[module])
                noise = relative_error(noisy[module], wanted[module])
                before = errors.get(name, (0.0, 0.0))
                errors[name] = (max(error, before[0]), max(noise, before[1]))
    found_errors = [
        TapError(name, module, errors[name][0], max(FLOOR, OVER_NOISE * errors[name][1]))
        for name, module in taps.items()
    ]
    return _believable(graph, found_errors)


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
    return [item for item in errors if item.agrees or graph.maker[item.tensor] not in proven]
