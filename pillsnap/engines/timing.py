"""How fast an engine is, and what memory its model takes by itself."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pillsnap.config.runtime import Runtime
from pillsnap.core.errors import PillsnapError
from pillsnap.core.hardware import gpu_process_mib
from pillsnap.core.isolated import run_isolated
from pillsnap.engines.onnxruntime.providers import CPU
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.engines.protocol import Batch, Engine

# What is timed runs so often at least, a single image at most, and otherwise for so long.
LEAST, MOST, SECONDS = 5, 100, 0.5

# A child that has not answered by then has failed.
_CHILD_S = 300


class Stopwatch:
    """An engine that notes how long each of its runs takes.

    Attributes:
        runs: images and seconds of every run but the first, which warms up.
        warm: there has been one.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.info = engine.info
        self.runs: list[tuple[int, float]] = []
        self.warm = False

    def run(self, batch: Batch) -> Batch:
        started = time.perf_counter()
        output = self.engine.run(batch)
        if self.warm:
            self.runs.append((len(batch), time.perf_counter() - started))
        self.warm = True
        return output

    def repeat(self, batch: Batch) -> None:
        """Run a batch again where those that were timed are few and quick."""
        while len(self.runs) < LEAST and math.fsum(took for _, took in self.runs) < SECONDS:
            self.run(batch)


@dataclass(frozen=True)
class Alone:
    """A model with one image at a time.

    Attributes:
        seconds: of each run after the first; none where it could not be run.
        peak_memory_mib: peak resident memory of a process that only runs this model; None where it
            shares one.
        peak_gpu_memory_mib: what it takes of the GPU; None without one.
        problem: why it could not be run.
    """

    seconds: tuple[float, ...]
    peak_memory_mib: float | None = None
    peak_gpu_memory_mib: float | None = None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": list(self.seconds)}


@runtime_checkable
class TimesAlone(Protocol):
    """An engine that may be run beyond what is compared, to be timed."""

    def alone(self, image: Batch) -> Alone | None:
        """The model with one image [1,3,H,W]; None where it is not to be measured."""


@runtime_checkable
class TimesFloat32(Protocol):
    """An engine that can time another file beside its own, as it would run that."""

    def alone_in_float32(self, model: Path, image: Batch) -> Alone | None:
        """A file in float32 with one image [1,3,H,W]; None where it is not to be measured."""


def time_here(run: Callable[[Batch], Batch], image: Batch) -> Alone:
    """Time a model in this process, whose memory it shares."""
    return Alone(time_run(run, image))


def time_run(run: Callable[[Batch], Batch], image: Batch) -> tuple[float, ...]:
    """Seconds of each run after the first."""
    run(image)
    seconds: list[float] = []
    while len(seconds) < LEAST or (sum(seconds) < SECONDS and len(seconds) < MOST):
        started = time.perf_counter()
        run(image)
        seconds.append(time.perf_counter() - started)
    return tuple(seconds)


class MeasuredAlone(ABC):
    """Everything that a process of its own needs to run a file as it will be run in production."""

    def measure(self, image: Batch) -> Alone:
        """Time the model in a process of its own, or say why that process failed."""
        try:
            return run_isolated(_CHILD_S, type(self).measure_here, self, image)
        except PillsnapError as error:
            return Alone((), problem=" ".join(str(error).split()))

    @abstractmethod
    def measure_here(self, image: Batch) -> Alone:
        """Time the model in this process, which has run no other."""


@dataclass(frozen=True)
class OnnxAlone(MeasuredAlone):
    """A file, and how its session is made."""

    model: Path
    provider: str
    threads: int
    runtime: Runtime
    precision: str

    def measure_here(self, image: Batch) -> Alone:
        session = open_session(
            self.model, self.provider, self.threads, self.runtime, self.precision
        )
        seconds = time_run(session.run, image)
        provider = session.ort.get_providers()[0]
        gpu = None if provider == CPU else gpu_process_mib(self.runtime.device_id(provider))
        return Alone(seconds, peak_resident_mib(), gpu)


def peak_resident_mib() -> float | None:
    """Peak resident memory of this process; None where Linux does not tell.

    Not ru_maxrss, which a process takes over from the one that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    peaks = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return next((round(int(peak) / 1024, 1) for peak in peaks), None)
