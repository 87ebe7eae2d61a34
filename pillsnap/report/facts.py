"""What the report says of a run as a whole."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pillsnap.compare.result import CellResult
from pillsnap.compare.tasks import task_names
from pillsnap.config.runtime import Runtime
from pillsnap.core.alternatives import find_package_problems
from pillsnap.core.checkout import Checkout
from pillsnap.core.cpus import usable_cpus
from pillsnap.core.hardware import cpu_name, gpu_name
from pillsnap.core.packages import GPU_LIBRARIES, gpu_library_version
from pillsnap.engines import package_sources, package_versions


@dataclass(frozen=True)
class Approval:
    """Whether the gate stands behind a file on a provider, this run's report included.

    Attributes:
        provider: ONNX Runtime's name of it.
        reason: what stands against it; None for an approved one.
    """

    stage: str
    path: str
    sha256: str
    provider: str
    approved: bool
    reason: str | None


@dataclass(frozen=True)
class Release:
    """What becomes of the files that a run judged.

    Attributes:
        latest: by stage, the float32 export that latest_<stage>.onnx is to lead to.
        kept: by stage that was run and has none, why the link stays what it is.
    """

    approvals: tuple[Approval, ...] = ()
    latest: Mapping[str, Path] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)

    def notes(self, stage: str) -> list[str]:
        """What a reader of the report should know."""
        why = self.kept.get(stage)
        return [] if why is None else [f"latest_{stage}.onnx stays what it is: {why}"]

    def as_dict(self) -> dict[str, Any]:
        return {
            "approvals": [asdict(approval) for approval in self.approvals],
            "latest": {s: str(self.latest[s]) if s in self.latest else None for s in task_names()},
        }


@dataclass(frozen=True)
class RunFacts:
    """What the report says of the run as a whole.

    Attributes:
        checkout: of the configuration's folder.
        command: repeats this run's cells, whatever the number of workers was.
        missing: shards that were collected and never reported.
        skipped: reason by shard.
        unmeasured: ids of cells that were asked for and skipped as a whole.
        budgets: of --perf-budget.
        data: SHA-256 over names and labels of all validation data, by stage.
        release: which files the run approves, and what becomes of latest_.
        diagnoses: by cell id, of the cells that were diagnosed.
        cluster: the nodes that shards ran on, and the runs that were lost; None of one machine.
        sensitivities: by cell id, which layers to keep in float.
        load: of the machine when the run began, see machine_load.
        against: Comparison.as_dict with the earlier report that --against names, if it does.
    """

    run: str
    started: datetime
    command: str
    checkout: Checkout
    threads: int
    exit_code: int
    complete: bool
    missing: Sequence[str]
    skipped: dict[str, str]
    unmeasured: Sequence[str] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    data: Mapping[str, str | None] = field(default_factory=dict)
    release: Release = field(default_factory=Release)
    diagnoses: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    cluster: Mapping[str, Any] | None = None
    sensitivities: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    load: float | None = None
    against: Mapping[str, Any] | None = None


def describe_cluster(
    cluster: Mapping[str, Any] | None, results: Sequence[CellResult]
) -> dict[str, Any] | None:
    """The cluster, with the speeds of cells that several kinds of node have timed."""
    if cluster is None:
        return None
    speeds = {result.cell.id: dict(result.speeds) for result in results if result.speeds}
    return {**cluster, "speeds": speeds}


def describe_environment(threads: int, runtime: Runtime) -> dict[str, Any]:
    """Python, packages, CPU, the GPU that is used and its libraries, none of which is imported;
    what is not there is null. And how ONNX Runtime was told to optimise."""
    gpu, _, driver = (gpu_name(runtime.cuda.device_id) or "").rpartition(", ")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": usable_cpus(),
        "threads": threads,
        "gpu": gpu or None,
        "driver": driver or None,
        **{name: gpu_library_version(name) for name in GPU_LIBRARIES},
        "packages": package_versions(),
        "distributions": package_sources(),
        "problems": find_package_problems(),
        "runtime": {
            "graph_optimization_level": runtime.graph_optimization_level,
            "disabled_optimizers": list(runtime.disabled_optimizers),
        },
    }
