"""Is it how the file is run? Optimisation, threads, batch, provider."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pillsnap.diagnose.distance import Figures, gap_of, measure_gap
from pillsnap.diagnose.optimizers import optimizer_trial
from pillsnap.diagnose.subject import Subject
from pillsnap.diagnose.trials import Trial, Trials
from pillsnap.engines import Batch


def runtime_trials(subject: Subject, wanted: Batch) -> Trials:
    """Trials that run the same file another way; `wanted` is the reference's answer."""
    runtime = subject.config.session_options
    batch = subject.candidate.batch(subject.images)

    def run(**how: Any) -> Figures:
        return gap_of(wanted, subject.open(subject.model, **how), batch)

    if subject.candidate.network is not subject.opened:
        yield Trial(
            "decoding",
            "the file by itself",
            "what the candidate's side does beside running its file",
            lambda: gap_of(wanted, subject.opened, batch),
        )
    if runtime.graph_optimization_level != "ORT_DISABLE_ALL":
        plain = replace(runtime, graph_optimization_level="ORT_DISABLE_ALL")
        yield Trial(
            "runtime",
            "graph optimisation off",
            "ONNX Runtime's graph optimisation",
            lambda: run(runtime=plain),
            hint="runtime.graph_optimization_level: ORT_DISABLE_ALL",
            narrow=lambda vanishes: optimizer_trial(
                runtime, lambda how: run(runtime=how), vanishes
            ),
        )
    if subject.threads != 1:
        yield Trial("runtime", "one thread", "threads of ONNX Runtime", lambda: run(threads=1))
    if len(subject.images) > 1:

        def one_by_one() -> Figures:
            answers = [subject.candidate.network(image[None]) for image in batch]
            return measure_gap(wanted, np.concatenate(answers))

        yield Trial(
            "runtime",
            "batch of one",
            "batching: an image's answer depends on those beside it",
            one_by_one,
        )
    if subject.provider != "cpu":
        yield Trial(
            "runtime",
            "CPU provider",
            f"execution provider {subject.provider}",
            lambda: run(provider="cpu"),
        )
