"""What one process of a run knows, kept under one key of pytest's config."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.load import find_config, load_config
from pillsnap.core.checkout import NO_GIT, Checkout, describe_checkout
from pillsnap.core.cpus import machine_load, usable_cpus
from pillsnap.core.errors import ConfigError, PillsnapError
from pillsnap.core.hashes import prepare_version_tag, utc_now
from pillsnap.core.logrecords import open_log
from pillsnap.core.workers import thread_count
from pillsnap.gate import journal
from pillsnap.gate.cluster.controller import ClusterRun
from pillsnap.gate.journal import RunLock, find_unfinished
from pillsnap.gate.ledger import Ledger
from pillsnap.gate.run import GateRun
from pillsnap.gate.run_key import run_key
from pillsnap.plugin.options import asks_for_gate, select
from pillsnap.plugin.ray_option import require_ray

log = open_log(__name__)

# Key of what the plugin puts into user_properties and into a worker's input.
PROPERTY = "pillsnap"


GATE_OPTIONS = (
    "engine",
    "provider",
    "precision",
    "stage",
    "int8_method",
    "perf_budget",
    "candidate",
    "layout",
    "fresh_export",
    "gate_strict",
    "resume",
    "no_reference_cache",
    "diagnose",
    "sensitivity",
    "compare_calibration",
    "against",
    "fail_on_regression",
    "save_reference",
    "reference",
    "ray",
)


@dataclass
class State:
    """What one process knows of the run.

    Attributes:
        asked: the user asked for the gate by -m or an option, so its items run alone.
        load: of the machine when the run began, see machine_load.
        ledger: kept on the controller alone.
        running: the session runs items; others, such as --fixtures, only show something.
        checkout: what the configuration's folder held when the run began.
        lock: says to other runs that this one is going on; kept on the controller alone.
        cluster: where shards are run while items are, with --ray, and what the report says of it.
    """

    run: GateRun
    asked: bool
    tag: str
    started: datetime = field(default_factory=utc_now)
    load: float | None = field(default_factory=machine_load)
    ledger: Ledger | None = None
    running: bool = False
    checkout: Checkout = field(default_factory=lambda: Checkout(NO_GIT))
    lock: RunLock | None = None
    cluster: ClusterRun | None = None


STATE = pytest.StashKey[State]()


def is_asked(config: pytest.Config) -> bool:
    """Whether the user asked for the gate by name, so that its items run alone."""
    option = config.option
    by_option = any(getattr(option, name) for name in GATE_OPTIONS)
    return by_option or asks_for_gate(option.markexpr)


def make_state(config: pytest.Config) -> State | None:
    """This process's state, or None where there is no config file and no gate was asked for."""
    option, asked = config.option, is_asked(config)
    try:
        path = find_config(option.config, os.environ, config.rootpath)
    except ConfigError:
        # A file that was named and is not there is a mistake; none by chance is no gate.
        if asked or option.config is not None or "PILLSNAP_CONFIG" in os.environ:
            raise
        return None
    selection = select(option)
    require_ray(option)
    settings = load_config(path)
    worker: dict[str, Any] | None = getattr(config, "workerinput", {}).get(PROPERTY)
    if worker is not None:
        facts = {name: worker[name] for name in ("threads", "contended", "resume")}
        run = GateRun(settings, selection, run_dir=Path(worker["run_dir"]), **facts)
        return State(run, asked, worker["tag"])
    tag = prepare_version_tag(path.parent)
    workers = getattr(option, "numprocesses", None) or 1
    # Of a cluster each CPU is a worker's: so that nodes of any size are used, and digits the same.
    sharing = workers if option.ray is None else usable_cpus()
    threads = thread_count(option.threads, sharing, settings.runtime.cpu.intra_op_num_threads)
    run_dir = settings.exp_dir / "runs" / f"{tag}-{secrets.token_hex(3)}"
    new = partial(GateRun, settings, selection, threads=threads, contended=workers > 1)
    run = new(run_dir=run_dir)
    if option.resume:
        found = find_unfinished(run_dir.parent, run_key(run, option.markexpr))
        if found is not None:
            run_dir, lock = found
            tag = run_dir.name.rpartition("-")[0]
            run, checkout = new(run_dir=run_dir, resume=True), describe_checkout(path.parent)
            return State(run, asked, tag, checkout=checkout, lock=lock)
    return State(run, asked, tag)


def begin(state: State, markers: str) -> None:
    """Note what this run is of: for the report, and on disk, so that --resume finds it if it is cut
    off. Called when items are known and when they are about to run, whichever comes last."""
    if not state.running or state.ledger is None or not state.ledger.expected:
        return
    if state.lock is not None:
        return  # it was noted when the run began
    state.checkout = describe_checkout(state.run.config.source.parent)
    try:
        state.lock = RunLock(state.run.run_dir)
        state.lock.take()
        journal.begin(state.run.run_dir, run_key(state.run, markers))
    except PillsnapError as error:
        log.warning("this run cannot be resumed: %s", error)  # the items say what cannot be written


def is_worker(config: pytest.Config) -> bool:
    """Whether this is a worker of xdist, which reports to a controller."""
    return hasattr(config, "workerinput")
