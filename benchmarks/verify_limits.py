"""How much a verification costs beyond the forward passes that it cannot do without.

    python benchmarks/verify_limits.py [--project full|demo] [--n N] [--threads N]

In one process, with the exports in place and the heavy libraries imported, `pytest -m coverage`
runs twice through pytest.main: without the reference cache of an earlier run, then with the one
that the first has left. Before and after, the engines' bare forward passes are timed: torch under
inference_mode, and ONNX Runtime's session.run, on the very batches that the gate makes, with as
many threads, after a warm-up; every other batch before and the others after, for each of the two
scaled to all images. The mean of both is what the runs are divided by.

    verify_over_limit      wall of the cold run / (torch + ONNX Runtime)
    reverify_over_limit    wall of the warm run / ONNX Runtime

Both also as `..._cpu`, of the processor's time instead of the wall's: on a machine that does other
things as well, they tell what belongs to the gate.

Everything that a run does counts: pytest's start (also given by itself), loading both models,
reading and preprocessing the images, comparing, judging, the report.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from projects import (
    NOT_A_GATE,
    ROOT,
    STAGES,
    Project,
    argument_parser,
    gate_arguments,
    machine,
    project_of,
    samples,
)

from pillsnap.core.cpus import usable_cpus
from pillsnap.engines.torch.model import keep_freed_memory

Forward = Callable[[np.ndarray], Any]
Seconds = dict[str, dict[str, tuple[float, float]]]
"""Wall and processor's time of bare forward passes, by stage and engine."""


def main() -> int:
    parser = argument_parser(__doc__, project="full", n=128)
    cores = usable_cpus()
    parser.add_argument("--threads", type=int, default=cores, help="default: all cores")
    arguments = parser.parse_args()
    project, threads = project_of(arguments), arguments.threads
    import_heavy()
    keep_freed_memory()  # as a run does when it loads torch: the bare passes before it have it too
    exports = project.export()
    bare = Bare.open(project, exports, threads)

    before = bare.seconds(0)
    project.forget_references()
    cold = run_here(project, threads)
    warm = run_here(project, threads)
    after = bare.seconds(1)

    limits = {
        engine: [
            sum(timing[stage][engine][clock] for timing in (before, after) for stage in STAGES) / 2
            for clock in (0, 1)
        ]
        for engine in ("torch", "ort")
    }
    (torch_s, torch_cpu_s), (ort_s, ort_cpu_s) = limits["torch"], limits["ort"]
    result = {
        "benchmark": "verify_limits",
        "project": project.name,
        "n": samples(cold.report),
        "batch_size": project.config.compare.batch_size,
        "threads": threads,
        **machine(),
        "verify_over_limit": round(cold.seconds / (torch_s + ort_s), 3),
        "reverify_over_limit": round(warm.seconds / ort_s, 3),
        "verify_over_limit_cpu": round(cold.cpu_s / (torch_cpu_s + ort_cpu_s), 3),
        "reverify_over_limit_cpu": round(warm.cpu_s / ort_cpu_s, 3),
        "cold": cold.as_dict(),
        "warm": warm.as_dict(),
        "bare_before_s": before,
        "bare_after_s": after,
    }
    print(json.dumps(result))
    return 0


def import_heavy() -> None:
    """Import what any run imports, so that no run pays for it."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import pycocotools.cocoeval  # noqa: F401
    import timm  # noqa: F401
    import torch  # noqa: F401
    import torchvision  # noqa: F401
    import ultralytics.nn.tasks  # noqa: F401


@dataclass
class Bare:
    """Both engines of both stages, and the batches that the gate gives them."""

    batches: dict[str, list[np.ndarray]]
    forwards: dict[str, dict[str, Forward]]

    @classmethod
    def open(cls, project: Project, exports: dict[str, Path], threads: int) -> Bare:
        import torch

        torch.set_num_threads(threads)
        batches = {stage: gate_batches(project, stage) for stage in STAGES}
        forwards = {
            stage: {
                "torch": torch_forward(project, stage),
                "ort": ort_forward(exports[stage], threads),
            }
            for stage in STAGES
        }
        return cls(batches, forwards)

    def seconds(self, half: int) -> Seconds:
        """Time every forward pass over half of the batches (0 or 1), after one that is not
        counted; scaled to all images."""
        result: Seconds = {}
        for stage, engines in self.forwards.items():
            result[stage] = {}
            batches = self.batches[stage]
            timed = batches[half::2] or batches
            scale = sum(map(len, batches)) / sum(map(len, timed))
            for engine, forward in engines.items():
                forward(timed[0])
                started, started_cpu = time.perf_counter(), time.process_time()
                for batch in timed:
                    forward(batch)
                seconds = time.perf_counter() - started, time.process_time() - started_cpu
                wall, cpu = (round(scale * value, 3) for value in seconds)
                result[stage][engine] = (wall, cpu)
        return result


def gate_batches(project: Project, stage: str) -> list[np.ndarray]:
    """The arrays that the gate's engines get, cut where the gate cuts them."""
    from pillsnap.compare.tasks import read_samples
    from pillsnap.data.sampling import select
    from pillsnap.engines.torch.checkpoints import stage_transform
    from pillsnap.pipeline.images import read_image
    from pillsnap.pipeline.preprocess import preprocess

    config = project.config
    transform = stage_transform(config, stage)
    chosen = select(read_samples(config, stage), config.compare, "coverage")
    size = config.compare.batch_size
    return [
        np.stack(
            [
                preprocess(read_image(sample.path), transform)
                for sample in chosen[start : start + size]
            ]
        )
        for start in range(0, len(chosen), size)
    ]


def torch_forward(project: Project, stage: str) -> Forward:
    import torch

    from pillsnap.engines.torch.checkpoints import build_model, find_best_checkpoint

    config = project.config
    module = build_model(config, stage, find_best_checkpoint(config, stage)).module

    def forward(batch: np.ndarray) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(batch))

    return forward


def ort_forward(path: Path, threads: int) -> Forward:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})


class Clock:
    """A plugin that notes when the first item starts and the last one ends."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def pytest_runtest_logstart(self) -> None:
        self.first = self.first or time.perf_counter()

    def pytest_runtest_logfinish(self) -> None:
        self.last = time.perf_counter()


@dataclass(frozen=True)
class RunHere:
    """A run of the gate in this process.

    Attributes:
        seconds, cpu_s: of pytest.main, wall and processor's time.
        start_s: until its first item: pytest's start and collection.
        end_s: after its last item: judging and the report.
    """

    seconds: float
    cpu_s: float
    start_s: float
    end_s: float
    report: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 2),
            "cpu_s": round(self.cpu_s, 2),
            "pytest_start_s": round(self.start_s, 2),
            "judge_s": round(self.end_s, 2),
            "cells": {
                cell["id"]: {"seconds": cell["seconds"], "verdict": cell["verdict"]}
                for cell in self.report["cells"]
            },
        }


def run_here(project: Project, threads: int) -> RunHere:
    """`pytest -m coverage` in this process.

    Raises:
        SystemExit: it did not get to measure; its output goes to stderr.
    """
    import pytest

    clock, output = Clock(), io.StringIO()
    options = (
        f"--threads={threads}",
        "--provider=cpu",
        # The plugin has been imported by the run before.
        "-Wignore::pytest.PytestAssertRewriteWarning",
    )
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(output):
        started, started_cpu = time.perf_counter(), time.process_time()
        code = pytest.main(gate_arguments(project, "coverage", *options), plugins=[clock])
        ended, cpu_s = time.perf_counter(), time.process_time() - started_cpu
    if int(code) in NOT_A_GATE or not clock.last:
        print(output.getvalue(), file=sys.stderr)
        raise SystemExit(f"pytest ended with exit code {int(code)}")
    report = json.loads((project.config.out_dir / "export_report.json").read_text())
    return RunHere(ended - started, cpu_s, clock.first - started, ended - clock.last, report)


if __name__ == "__main__":
    sys.exit(main())
