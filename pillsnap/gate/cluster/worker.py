"""What a worker on a node does: shards, as one process of a single machine runs them."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from pillsnap.compare.outcome import Outcome
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config
from pillsnap.core.cpus import usable_cpus
from pillsnap.core.files import make_folder
from pillsnap.core.hardware import cpu_name, gpu_name
from pillsnap.core.hashes import code_sha256, sha256_json
from pillsnap.core.logrecords import collected_warnings
from pillsnap.engines import package_versions
from pillsnap.engines.torch.checkpoints import named_checkpoint
from pillsnap.export import Exported
from pillsnap.gate.cluster.jobs import (
    Answer,
    Fetch,
    Job,
    ModelWanted,
    Offer,
    Seat,
    Setup,
    given,
)
from pillsnap.gate.cluster.parcels import Parcel
from pillsnap.gate.cluster.plugins import add_plugins
from pillsnap.gate.cluster.shipped_plan import ShippedPlan
from pillsnap.gate.run import GateRun

TOKEN = "cluster"
"""Name of the file in a run's folder that holds Setup.token."""


class Worker:
    """Runs shards; models stay open for the next.

    Args:
        fetch: gives what a handle stands for.
        temp: where the node's own files may lie, if not among the system's temporary ones.

    Raises:
        PillsnapError: a file cannot be written there, or a bundle is not here.
    """

    def __init__(self, setup: Setup, seat: Seat, fetch: Fetch, temp: Path | None = None) -> None:
        if seat.lane == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # of a node that has some
        add_plugins(setup.plugins)
        self._seat, self._fetch = seat, fetch
        self._scratch = (temp or Path(tempfile.gettempdir())) / f"{setup.scratch}-{seat.node[:12]}"
        # What messages and descriptions call by a path of this node's own.
        self._on_driver: dict[str, str] = {}
        self._records: bytes | None = None
        config = self._localise(setup)
        self._plan = ShippedPlan(config, setup.selection, fetch)
        self._run = GateRun(
            config,
            setup.selection,
            threads=setup.threads,
            run_dir=setup.run_dir,
            contended=seat.contended,
            planned=self._plan,
            find_model=self._find_model,
            store=self._store,
        )

    def run(self, job: Job) -> Answer:
        """Run a shard, or say that its model is wanted first."""
        self._plan.job, self._records = job, None
        with collected_warnings() as warnings:
            try:
                outcome = self._run.measure(job.shard)
            except ModelWanted:
                return Answer(None)
        gpu = gpu_name() if self._seat.lane == "gpu" else None
        kind = gpu or cpu_name() or "unknown"
        host = {"node": self._seat.node, "kind": kind, "contended": self._seat.contended}
        outcome = replace(outcome, host=host)
        scratch = str(self._scratch) if self._scratch.exists() else None
        return Answer(self._as_on_driver(outcome), self._records, warnings, scratch)

    def _localise(self, setup: Setup) -> Config:
        """The configuration as it holds on this node."""
        config = setup.config
        try:
            shared = (setup.run_dir / TOKEN).read_text() == setup.token
        except OSError:
            shared = False
        if not shared:
            exp_dir = self._scratch / "exp"
            make_folder(self._scratch)
            self._on_driver[str(exp_dir)] = str(config.exp_dir)
            config = replace(config, paths=replace(config.paths, exp_dir=exp_dir))
        for stage, parcel in setup.checkpoints.items():
            named = named_checkpoint(config, stage)
            if named is not None:
                settings = getattr(config, stage)
                here = self._unpack(parcel) / named.name
                changed: Any = {stage: replace(settings, checkpoint=here)}
                config = replace(config, **changed)
            elif not shared:
                parcel.write(config.exp_dir / "checkpoints", self._fetch)
        if self._seat.lane == "gpu":  # Ray shows a worker its own GPU alone
            runtime = config.runtime
            first = {n: replace(getattr(runtime, n), device_id=0) for n in ("cuda", "tensorrt")}
            config = replace(config, runtime=replace(runtime, **first))
        return config

    def _unpack(self, parcel: Parcel) -> Path:
        """The folder where a parcel's files lie: the driver's own, where they are there too."""
        if parcel.lies_there():
            return parcel.folder
        into = self._scratch / "files" / sha256_json(str(parcel.folder))[:16]
        parcel.write(into, self._fetch)
        self._on_driver[str(into)] = str(parcel.folder)
        return into

    def _find_model(self, cell: Cell) -> Exported:
        if self._plan.job.offer is None:
            raise ModelWanted
        offer: Offer = given(self._fetch(self._plan.job.offer))
        exported = offer.exported
        path = self._unpack(offer.model) / exported.path.name
        float32 = exported.float32
        if float32 is not None and offer.float32 is not None:
            float32 = self._unpack(offer.float32) / float32.name
        return replace(exported, path=path, float32=float32)

    def _store(self, path: Path, content: bytes) -> None:
        self._records = content

    def _as_on_driver(self, outcome: Outcome) -> str:
        text = outcome.as_json()
        for here, there in sorted(self._on_driver.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(json.dumps(here)[1:-1], json.dumps(there)[1:-1])
        return text


def describe_machine() -> dict[str, Any]:
    """What results and times on this machine depend on."""
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": usable_cpus(),
        "gpu": gpu_name(),
        "packages": package_versions(),
        "code": code_sha256(),
    }
