"""Why the sides differ, by intervention: what makes the difference vanish is the cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pillsnap.core.errors import PillsnapError
from pillsnap.diagnose.distance import measure_gap, over_noise
from pillsnap.diagnose.file_trials import file_trials
from pillsnap.diagnose.fresh_exports import FreshExports
from pillsnap.diagnose.input_trials import input_trials
from pillsnap.diagnose.runtime_trials import runtime_trials
from pillsnap.diagnose.subject import Subject
from pillsnap.diagnose.trials import Causes, Trials, run_trials
from pillsnap.engines import Batch

if TYPE_CHECKING:
    import onnx


# Other threads, another batch or the other exporter change rounding errors by less.
_MARGIN = 10.0
# Of the noise that any export may have: about the resolution of float32.
_LEAST = 0.01


def find_causes(subject: Subject, candidate: onnx.ModelProto, exports: FreshExports) -> Causes:
    """Try what is quick and particular first: how the file is run, what it is fed, what it holds.
    PillsnapError where a side does not run as it is."""
    wanted = subject.reference.answer(subject.images)
    before = measure_gap(wanted, subject.candidate.answer(subject.images))

    def trials() -> Trials:
        yield from runtime_trials(subject, wanted)
        yield from input_trials(subject, wanted)
        yield from file_trials(subject, wanted, candidate, exports)

    return run_trials(before, _noise(subject, wanted, candidate, exports), trials())


def _noise(
    subject: Subject, wanted: Batch, candidate: onnx.ModelProto, exports: FreshExports
) -> float:
    """What a fresh export differs by on these samples, with a margin; at most what any may. Noise
    differs by orders of magnitude between models: under the limit for all of them, a wrong
    intervention can seem to undo a small difference."""
    try:
        fresh = subject.open(exports.like(subject.stage, candidate), precision="fp32")
        healthy = measure_gap(wanted, fresh(subject.reference.batch(subject.images)))
    except PillsnapError:
        return 1.0
    return min(max(_MARGIN * over_noise(healthy), _LEAST), 1.0)
