"""What models with some layers left float lose, each measured once and remembered on disk."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.core.errors import ExportError
from pillsnap.core.files import write_atomic
from pillsnap.core.hashes import sha256_json
from pillsnap.export.quantize.int8 import count_compute
from pillsnap.export.quantize.lowering import Lowering

if TYPE_CHECKING:
    import onnx

# Part of a tolerance that a set of layers must hold on the images it is chosen on, so that others
# hold the whole of it: the demo's detector held an iou_delta_p95 of 0.08 there, of 0.084 elsewhere.
MARGIN = 0.5

# Where figures of few images take up so many times that part, more images are not asked.
_HOPELESS = 10.0


@dataclass(frozen=True)
class Loss:
    """How far a model is from the reference, by the figures that its profile judges.

    Attributes:
        shares: by figure, how much of its tolerance it takes up; 1 is all of it.
        error: of the raw output, see output_error.
        low: nodes that compute in the lower precision.
        seconds: that building and measuring it took.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    error: float = 0.0
    low: int = 0
    seconds: float = 0.0

    @property
    def share(self) -> float:
        return max(self.shares.values(), default=0.0)

    @property
    def figure(self) -> str:
        """The figure that takes up most; "" where none takes up anything."""
        worst = max(self.shares, key=self.shares.__getitem__, default="")
        return worst if self.share else ""

    @property
    def holds(self) -> bool:
        """Whether something is lowered, and every tolerance is held with a margin."""
        return self.low > 0 and self.share <= MARGIN


Measure = Callable[["onnx.ModelProto", bool], Loss]
"""Of a model, on a few images (True) or on all that are there; images that are not verified."""


class Trials:
    """Losses of a model by the nodes that are left float.

    Args:
        memory: a file that what was measured is kept in; its name must tell all that a loss depends
            on beside the nodes. None keeps nothing.
    """

    def __init__(self, lowering: Lowering, measure: Measure, memory: Path | None = None) -> None:
        self.lowering = lowering
        self.measured = 0
        self._measure = measure
        self._memory = memory
        self._known = {} if memory is None else _read(memory)

    def few(self, kept: Collection[str]) -> Loss:
        """What is lost on a few images with these nodes float."""
        return self._of(kept, few=True)

    def all(self, kept: Collection[str]) -> Loss:
        """The same on all of them."""
        return self._of(kept, few=False)

    def holds(self, kept: Collection[str]) -> bool:
        """Whether a model with these nodes float holds on all images."""
        return self.few(kept).share <= _HOPELESS * MARGIN and self.all(kept).holds

    def _of(self, kept: Collection[str], *, few: bool) -> Loss:
        key = sha256_json([sorted(kept), few])
        if key not in self._known:
            self._known[key] = self._run(kept, few)
            self.measured += 1
            if self._memory is not None:
                content = {name: asdict(loss) for name, loss in self._known.items()}
                write_atomic(self._memory, json.dumps(content).encode())
        return self._known[key]

    def _run(self, kept: Collection[str], few: bool) -> Loss:
        started = time.perf_counter()
        try:
            model = self.lowering.build(kept)
        except ExportError:  # of some layers alone it makes no model
            return Loss({"not_converted": math.inf}, math.inf)
        low = count_compute(model)[0]
        found = self._measure(model, few)
        return Loss(found.shares, found.error, low, time.perf_counter() - started)


def _read(memory: Path) -> dict[str, Loss]:
    try:
        return {name: Loss(**loss) for name, loss in json.loads(memory.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
