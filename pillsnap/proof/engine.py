"""The engine that faults are injected through: the healthy one, with a fault before or after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pillsnap.compare.loading import Prepared, load_batches
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch, Engine, FindFile, Request, Transform, find_entry, register
from pillsnap.engines.protocol import RunsAtOtherSizes
from pillsnap.proof.fault import Injection

ENGINE = "faulty"


@dataclass
class Desk:
    """The samples of the batch that both engines are about to see, and whether the fault has
    changed anything so far that went into the network or came out of it."""

    threads: int
    samples: Sequence[Sample] = ()
    changed: bool = False

    def load(
        self, samples: Sequence[Sample], transform: Transform, batch_size: int
    ) -> Iterator[Prepared]:
        for batch in load_batches(samples, transform, batch_size, self.threads):
            self.samples = batch.samples
            yield batch


@dataclass
class FaultyEngine:
    """Not one of those that time themselves alone: a fault's speed is of no interest. It runs at
    other sizes unless the fault lies around the file, which is made for a batch of the samples."""

    inner: Engine
    injection: Injection
    desk: Desk
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int | str | None, ...] | None:
        if self.injection.see or self.injection.say or not isinstance(self.inner, RunsAtOtherSizes):
            return None
        return self.inner.input_shape

    def run(self, batch: Batch) -> Batch:
        see, say = self.injection.see, self.injection.say
        seen = batch if see is None else see(self.desk.samples, batch)
        output = self.inner.run(seen)
        said = output if say is None else say(output)
        if not (np.array_equal(seen, batch) and np.array_equal(said, output)):
            self.desk.changed = True
        return said


def register_faulty(injection: Injection, desk: Desk) -> None:
    """`ENGINE`: ONNX Runtime, as it ships, with a fault on the candidate's side."""
    onnx = find_entry("onnx")

    def open_faulty(request: Request, file: FindFile) -> FaultyEngine:
        inner = onnx.open(request, file)
        return FaultyEngine(inner, injection, desk, inner.info)

    register(replace(onnx, name=ENGINE, open=open_faulty))
