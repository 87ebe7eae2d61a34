"""What the driver gives to workers: the run's setup, the samples of a shard, the file of a cell."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pillsnap.compare.tasks import task_names, task_of
from pillsnap.config.cells import Cell, Shard
from pillsnap.core.errors import PillsnapError, first_line
from pillsnap.core.files import write_atomic
from pillsnap.core.hardware import gpu_name
from pillsnap.core.modelfiles import model_files
from pillsnap.data.datasets import Sample
from pillsnap.engines import entries
from pillsnap.engines.torch.checkpoints import checkpoint_paths
from pillsnap.gate.cluster.jobs import Job, Offer, Setup
from pillsnap.gate.cluster.parcels import pack
from pillsnap.gate.cluster.plugins import pickle_plugins
from pillsnap.gate.cluster.worker import TOKEN
from pillsnap.gate.opened_models import model_of
from pillsnap.gate.run import GateRun


class Supplies:
    """Makes each once a run, when it is first needed.

    Args:
        put: keeps a value for all nodes and gives its handle.
    """

    def __init__(self, run: GateRun, put: Callable[[object], Any]) -> None:
        self._run, self._put = run, put
        self._offers: dict[Cell, Any] = {}
        self._pools: dict[str, Any] = {}

    def setup(self) -> Any:
        """Handle of the Setup.

        Raises:
            PillsnapError: a checkpoint cannot be read, or the run's folder not be written.
            ConfigError: as pickle_plugins.
        """
        run, token = self._run, secrets.token_hex(16)
        write_atomic(run.run_dir / TOKEN, token.encode())
        parcels = {}
        for stage in run.selection.stages if run.selection.reference is None else ():
            found = [path for path in checkpoint_paths(run.config, stage) if path.is_file()]
            if found:
                parcels[stage] = pack(found, self._put)
        plugins = pickle_plugins(entries(), [task_of(name) for name in task_names()])
        scratch = f"pillsnap-{token}"
        facts = (run.config, run.selection, run.threads, run.run_dir)
        return self._put(Setup(*facts, token, scratch, plugins, parcels))

    def job(self, shard: Shard) -> Job:
        cell, plan = shard.cell, self._run.plan
        offer = self._offers.get(model_of(cell))
        try:
            categories = plan.categories(cell.stage)
            if cell.hard:
                return Job(shard, (), categories, self._hard_pool(cell.stage), offer)
            return Job(shard, plan.of_shard(shard), categories, offer=offer)
        except PillsnapError as error:  # which a worker meets where one machine would
            return Job(shard, error, pool=self._put(error), offer=offer)

    def find_model(self, cell: Cell) -> None:
        """Make or find the file of a cell here, for the jobs to come; where that fails, they have
        the error."""
        model = model_of(cell)
        if model in self._offers:
            return
        sides = self._exporting().sides
        try:
            exported = sides.model(cell)
            beside = [exported.path.parent / name for name in exported.weights]
            source = exported.float32
            offer: Offer | PillsnapError = Offer(
                exported,
                pack([*model_files(exported.path), *beside], self._put),
                None if source is None else pack([source], self._put),
            )
        except PillsnapError as error:
            offer = error
        except Exception as error:  # of an exporter, say: of every item that needs the file
            what = f"{type(error).__name__}: {first_line(error)}"
            offer = PillsnapError("the file could not be made", where=cell.id, got=what)
        sides.close()  # models are large, and are not run here
        self._offers[model] = self._put(offer)

    def _hard_pool(self, stage: str) -> Any:
        if stage not in self._pools:
            samples: list[Sample] = self._run.plan.hard_pool(stage)
            self._pools[stage] = self._put(samples)
        return self._pools[stage]

    def _exporting(self) -> GateRun:
        """The run that exports: a driver without a GPU asks no reference on one."""
        run, compare = self._run, self._run.config.compare
        if compare.reference_device == "cpu" or gpu_name() is not None:
            return run
        on_cpu = replace(run.config.export, compare=replace(compare, reference_device="cpu"))
        return replace(run, config=replace(run.config, export=on_cpu), planned=run.plan)
