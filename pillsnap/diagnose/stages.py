"""A subject's pipeline in stages, and how far two of its results are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.tasks import task_of
from pillsnap.core.errors import PillsnapError
from pillsnap.diagnose.budget import Budget, Stage, share_difference
from pillsnap.diagnose.distance import measure_gap, over_noise
from pillsnap.diagnose.subject import Subject
from pillsnap.diagnose.taps import open_taps
from pillsnap.engines import Batch
from pillsnap.engines.onnxruntime.precision import element_types
from pillsnap.export.quantize.graph import decode_nodes

if TYPE_CHECKING:
    import onnx


Raw = list[NDArray[Any]]
"""The tensors at the cut, in the order in which the file makes them."""


class Halves:
    """Both halves of a file.

    Attributes:
        cut: names of the tensors between them; () where the file cannot be cut: a classifier, or
            of another structure than a YOLO detector's.
    """

    def __init__(self, model: onnx.ModelProto, threads: int) -> None:
        self._model = model
        self._threads = threads
        self._decoding = set(decode_nodes(model))
        made = [
            name
            for node in model.graph.node
            if node.name not in self._decoding
            for name in node.output
        ]
        used = {
            name for node in model.graph.node if node.name in self._decoding for name in node.input
        }
        self.cut = tuple(name for name in made if name in used) if self._decoding else ()

    def network(self) -> Callable[[Batch], Raw]:
        """The first half."""
        run = open_taps(self._model, self.cut, self._threads)
        return lambda batch: list(run(batch).values())

    def decoding(self) -> Callable[[Raw], Batch]:
        """The second half; its function takes what the first one gives."""
        import onnx
        from onnx import helper

        types = element_types(self._model)
        half = onnx.ModelProto()
        half.CopyFrom(self._model)
        graph = half.graph
        kept = [node for node in graph.node if node.name in self._decoding]
        del graph.node[:], graph.input[:], graph.value_info[:]
        graph.node.extend(kept)
        graph.input.extend(
            helper.make_tensor_value_info(name, types[name], None) for name in self.cut
        )
        output = graph.output[0].name
        run = open_taps(half, [output], self._threads)
        return lambda raw: run(dict(zip(self.cut, raw, strict=True)))[output]


def error_budget(
    subject: Subject,
    candidate: onnx.ModelProto | None = None,
    healthy: onnx.ModelProto | None = None,
) -> Budget:
    """The final difference of a subject's sides, attributed to preprocess, network, decode, and nms
    or softmax. Where no result differs, such as by boxes that nobody keeps, the answers of the
    networks are compared instead. PillsnapError where a side does not run.

    Args:
        candidate, healthy: with both, a detector's network and decoding are told apart; the healthy
            file then stands for the reference, from which it differs by noise.
    """
    finishing = task_of(subject.stage).finishing
    stages = network_stages(subject, candidate, healthy)
    finish = Stage(finishing.name, subject.reference.finish, subject.candidate.finish)

    def distance(reference: Sequence[Any], candidate: Sequence[Any]) -> float:
        pairs = zip(reference, candidate, strict=True)
        return float(np.mean([finishing.distance(a, b) for a, b in pairs]))

    def answer_distance(reference: Batch, candidate: Batch) -> float:
        return over_noise(measure_gap(reference, candidate))

    budget = share_difference([*stages, finish], subject.images, distance)
    if budget.percent is not None:
        return replace(budget, unit=finishing.unit)
    raw = share_difference(stages, subject.images, answer_distance)
    percent = None if raw.percent is None else {**raw.percent, finish.name: 0.0}
    return Budget(raw.total, percent, "times the noise of healthy exports")


def network_stages(
    subject: Subject, candidate: onnx.ModelProto | None, healthy: onnx.ModelProto | None
) -> list[Stage]:
    """Preprocessing, and network or network and decoding: from images to the networks' answers."""
    ours = subject.reference.batch
    same = subject.reference.prepare is subject.candidate.prepare
    first = Stage("preprocess", ours, ours if same else subject.candidate.batch)
    return [first, *_networks(subject, candidate, healthy)]


def _networks(
    subject: Subject, candidate: onnx.ModelProto | None, healthy: onnx.ModelProto | None
) -> list[Stage]:
    whole = [Stage("network", subject.reference.network, subject.candidate.network)]
    if candidate is None or healthy is None:
        return whole
    try:
        ours, theirs = Halves(healthy, subject.threads), Halves(candidate, subject.threads)
        if not ours.cut or len(ours.cut) != len(theirs.cut):
            return whole
        halves = [
            Stage("network", ours.network(), theirs.network()),
            Stage("decode", ours.decoding(), theirs.decoding()),
        ]
        batch = subject.reference.batch(subject.images[:1])
        for side, engine in ((0, subject.reference), (1, subject.candidate)):
            steps = [(stage.reference, stage.candidate)[side] for stage in halves]
            joined = steps[1](steps[0](batch))
            # Halves that do not add up to their whole (another provider, say) explain nothing.
            if over_noise(measure_gap(engine.network(batch), joined)) > 1:
                return whole
    except PillsnapError:
        return whole
    return halves
