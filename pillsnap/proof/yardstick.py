"""How exact a changed file is, beside the gate: each layer of a network in turn takes hundreds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pillsnap.compare.exactness import measure_errors
from pillsnap.compare.loading import load_batches
from pillsnap.compare.tasks import read_samples, task_of
from pillsnap.config.cells import Cell
from pillsnap.data.sampling import select
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.engines.protocol import Request
from pillsnap.engines.torch.engine import open_reference
from pillsnap.proof.fault import Bench, NotApplicable

if TYPE_CHECKING:
    import onnx


class Yardstick:
    """What torch answers, in float32 and in float64, for the images on which exactness is judged.

    Attributes:
        limit: what strict allows.

    Raises:
        NotApplicable: strict does not judge exactness, or torch has no outputs in float64.
    """

    def __init__(self, bench: Bench, threads: int) -> None:
        config, stage = bench.config, bench.stage
        cell = Cell(stage, "onnx", "cpu", "fp32", "smoke")
        reference = open_reference(Request(config, cell, threads=threads))
        limit = config.compare.tolerances.strict.exactness
        if limit is None or reference.exact is None:
            raise NotApplicable("profile strict does not judge how exact this model's file is")
        self.limit = limit
        self._threads = threads
        self._options = config.session_options
        chosen = select(read_samples(config, stage), config.compare, cell.mode)
        images = chosen[: config.compare.exactness_images]
        (batch,) = load_batches(images, bench.transform, len(images))
        self._images = batch.array
        self._parts = task_of(stage).recorder(reference, config.nms).parts
        self._exact = self._parts(reference.exact(self._images))
        self._wanted = self._parts(reference.engine.run(self._images))

    def exactness(self, model: onnx.ModelProto) -> float:
        """The largest of a file's parts, opened as a cell on the CPU is; EngineError where ONNX
        Runtime refuses it."""
        content = model.SerializeToString()
        session = open_session(content, "cpu", self._threads, self._options)
        found = self._parts(session.run(self._images))
        errors = measure_errors(self._exact, self._wanted, found)
        return max(error.exactness for error in errors)
