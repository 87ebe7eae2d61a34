"""Why the sides differ, by intervention: what makes the difference vanish is the cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pillsnap.diagnose.exports import FreshExports
from pillsnap.diagnose.file_trials import file_trials
from pillsnap.diagnose.gap import measure_gap
from pillsnap.diagnose.input_trials import input_trials
from pillsnap.diagnose.runtime_trials import runtime_trials
from pillsnap.diagnose.subject import Subject
from pillsnap.diagnose.trials import Causes, Trials, run_trials

if TYPE_CHECKING:
    import onnx


def find_causes(subject: Subject, candidate: onnx.ModelProto, exports: FreshExports) -> Causes:
    """Try what is quick and particular first: how the file is run, what it is fed, what it holds.

    Args:
        candidate: the content of the subject's file.

    Raises:
        PillsnapError: a side does not run as it is.
    """
    wanted = subject.reference.answer(subject.images)
    before = measure_gap(wanted, subject.candidate.answer(subject.images))

    def trials() -> Trials:
        yield from runtime_trials(subject, wanted)
        yield from input_trials(subject, wanted)
        yield from file_trials(subject, wanted, candidate, exports)

    return run_trials(before, trials())
