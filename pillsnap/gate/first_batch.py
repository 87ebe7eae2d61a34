"""What is found out on the first batch of a cell, and counts for all of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pillsnap.compare import Recorder
from pillsnap.compare.exactness import Exact
from pillsnap.compare.loading import Prepared
from pillsnap.compare.reference import CachedReference
from pillsnap.config.cells import Cell
from pillsnap.core.errors import EngineError, first_line
from pillsnap.engines.protocol import Batch
from pillsnap.engines.timing import Stopwatch, TimesAlone, TimesFloat32
from pillsnap.gate.free_axes import try_free_axes


@dataclass
class FirstBatch:
    """A cell's first batch, once both sides have answered it.

    Attributes:
        count: of its images that the reference is run on in float64, at the most.
        batching: see Outcome.
        example: float32 [N,3,H,W]; None before there is one.
        problem: why there are no outputs in float64, if that was tried.
    """

    cell: Cell
    candidate: Stopwatch
    remembered: CachedReference
    recorder: Recorder
    count: int
    batching: dict[str, Any] | None = None
    example: Batch | None = None
    problem: str | None = None

    def __post_init__(self) -> None:
        self._contents: list[bytes] = []
        self._outputs: tuple[Batch, ...] = ()

    def see(self, batch: Prepared, ref: Batch, cand: Batch) -> None:
        """Look at a batch and both outputs, if it is the first; errors as try_free_axes."""
        if self.example is not None:
            return
        self.example = batch.array
        self._contents = batch.contents[: self.count]
        self._outputs = (ref[: self.count], cand[: self.count])
        # Hard samples are for where models differ: the model is the same.
        if not self.cell.hard:
            strides, stage = self.remembered.reference.strides, self.cell.stage
            self.batching = try_free_axes(
                self.candidate, stage, batch, ref, cand, self.recorder, strides
            )

    def exact(self) -> Exact | None:
        """The reference's outputs in float64 for the first images; None of an engine without, and
        of a network that cannot be run so, whose other figures stand."""
        if self.example is None:
            return None
        try:
            return self.remembered.exact_outputs(self.example[: self.count], self._contents)
        except EngineError as error:
            self.problem = first_line(error)
            return None

    def exactness(self, exact: Exact | None) -> dict[str, Any] | None:
        """Outcome.exactness; a golden bundle may have exact outputs of fewer images."""
        if exact is None:
            return None
        ref, cand = (output[: len(exact)] for output in self._outputs)
        errors = self.recorder.errors(exact, ref, cand)
        return {"images": len(exact), "parts": [asdict(error) for error in errors]}

    def timing(self, *, reference: bool, float32: bool) -> dict[str, Any]:
        """Outcome.timing beside the runs; nothing without a batch, and of hard samples, which take
        as long as others.

        Args:
            reference: whether the reference is to be timed too.
            float32: whether the float32 file that the candidate was made from is.
        """
        engine, source = self.candidate.engine, self.candidate.info.get("float32_path")
        if self.example is None or self.cell.hard or not isinstance(engine, TimesAlone):
            return {}
        self.candidate.repeat(self.example)
        image = self.example[:1]
        seconds, remembered, other = None, False, None
        if reference:
            seconds, remembered = self.remembered.seconds_per_image(self.example)
        alone = engine.alone(image)
        if float32 and source is not None and isinstance(engine, TimesFloat32):
            other = engine.alone_in_float32(Path(source), image)
        return {
            "reference_s": seconds,
            "reference_remembered": remembered,
            "alone": None if alone is None else alone.as_dict(),
            "float32_alone": None if other is None else other.as_dict(),
        }
