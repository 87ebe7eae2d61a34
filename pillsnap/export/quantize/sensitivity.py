"""Which nodes must stay float for an INT8 model to hold: a search with a bound on its cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import ExportError
from pillsnap.engines import Batch
from pillsnap.export.onnxfile import stage_of
from pillsnap.export.quantize.calibration import Ranges
from pillsnap.export.quantize.graph import head_nodes
from pillsnap.export.quantize.groups import Groups, group_nodes
from pillsnap.export.quantize.int8 import STATIC_OPS, count_compute, quantize_static
from pillsnap.export.quantize.run_graph import opened

if TYPE_CHECKING:
    import onnx


def find_float_nodes(
    model: onnx.ModelProto,
    ranges: Ranges,
    probes: Sequence[Batch],
    passes: Callable[[onnx.ModelProto], bool],
    *,
    exclude: Collection[str] | None = None,
    budget: int = 48,
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Leave as few nodes float as it takes for a statically quantised model to pass.

    Groups of nodes are quantised one at a time and ranked by the error of the output; then the
    costliest are left float, 1, 2, 4, 8 and so on until the model passes, and bisection takes back
    what was not necessary. What is found need not be the smallest set, but it has passed.

    Args:
        model: float32.
        ranges: of measure_ranges, over STATIC_OPS.
        probes: a few preprocessed batches that the ranking is measured on, float32 [N,3,H,W].
        passes: judges a quantised model. What it looks at should not be what is verified later.
        exclude: as for quantize_static; these stay float in any case.
        budget: most models that are built and run, at least 16.

    Returns:
        The INT8 model that holds, and the names of the nodes that the search left float, in the
        graph's order.

    Raises:
        ExportError: it does not hold with every group float that costs anything.
    """
    excluded = frozenset(head_nodes(model) if exclude is None else exclude)

    def attempt(freed: Sequence[str]) -> onnx.ModelProto | None:
        names = {name for group in freed for name in groups[group]}
        candidate = quantize_static(model, ranges, exclude=excluded | names)
        return candidate if count_compute(candidate)[0] > 0 and passes(candidate) else None

    groups: Groups = {}
    found = attempt(())
    if found is not None:
        return found, ()
    names = [
        node.name
        for node in model.graph.node
        if node.op_type in STATIC_OPS and node.name not in excluded
    ]
    # What is left of the budget is for doubling and bisection, a bit of the count at a time.
    groups = group_nodes(names, budget - 2 * budget.bit_length())
    order = _rank(model, ranges, probes, groups)
    low, high = 0, 1
    while (found := attempt(order[:high])) is None:
        if high >= len(order):
            raise ExportError(
                "the model cannot be quantised: it does not hold with all float that costs "
                "anything",
                where=f"the {stage_of(model)} model",
                got=f"{len(order)} groups of nodes left float",
                hint="use --precision fp16, or a wider tolerance for int8",
            )
        low, high = high, min(2 * high, len(order))
    while high - low > 1:
        middle = (low + high) // 2
        tried = attempt(order[:middle])
        if tried is None:
            low = middle
        else:
            found, high = tried, middle
    freed = {name for group in order[:high] for name in groups[group]}
    return found, tuple(name for name in names if name in freed)


def _rank(
    model: onnx.ModelProto, ranges: Ranges, probes: Sequence[Batch], groups: Groups
) -> list[str]:
    """Groups by falling error of the output when nothing but the group is quantised, without those
    that cost nothing."""
    wanted = _outputs(model, probes)
    costs = {}
    for group, names in groups.items():
        candidate = quantize_static(model, ranges, exclude=(), only=names)
        costs[group] = output_error(wanted, _outputs(candidate, probes))
    return sorted((group for group in costs if costs[group] > 0), key=lambda group: -costs[group])


def _outputs(model: onnx.ModelProto, probes: Sequence[Batch]) -> Batch:
    run = opened(model)
    return np.concatenate([run(batch)[0] for batch in probes])


def output_error(reference: Batch, output: Batch) -> float:
    """A relative squared error, 0 for equal outputs; infinite where `output` is not finite.

    Logits [N,C], centred, since softmax ignores a shift: power of the error over their power.

    Detections [N,boxes,6]: the same of the scores, plus for boxes the squared error of the edges
    over the area, and the part of other classes, both weighted by the reference's score: a
    detector's many boxes of background are never looked at.
    """
    if not np.isfinite(output).all():
        return float("inf")
    wanted, found = reference.astype(np.float64), output.astype(np.float64)
    if wanted.ndim == 2:
        wanted -= wanted.mean(axis=1, keepdims=True)
        found -= found.mean(axis=1, keepdims=True)
        return _ratio((found - wanted) ** 2, wanted**2)
    score = wanted[..., 4]
    area = (wanted[..., 2:4] - wanted[..., 0:2]).clip(1.0).prod(axis=-1)
    edges = ((found[..., :4] - wanted[..., :4]) ** 2).sum(axis=-1) / area
    classes = found[..., 5] != wanted[..., 5]
    return (
        _ratio((found[..., 4] - score) ** 2, score**2)
        + _ratio(score * edges, score)
        + _ratio(score * classes, score)
    )


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    """Sum of one over the sum of the other; 0 where the other has none."""
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0
