"""A run on a cluster, as the items of its session see it: each waits for its own shard."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pillsnap.compare.outcome import Outcome
from pillsnap.config.cells import Cell, Shard
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import write_atomic
from pillsnap.core.logrecords import open_log
from pillsnap.gate import journal
from pillsnap.gate.cluster.census import Census
from pillsnap.gate.cluster.jobs import Answer, Seat
from pillsnap.gate.cluster.nodes import cannot_serve, lane_of
from pillsnap.gate.cluster.pool import Event, Pool
from pillsnap.gate.cluster.scheduling import ATTEMPTS, LANES, Lane, Scheduler
from pillsnap.gate.cluster.supplies import Supplies
from pillsnap.gate.run import GateRun

log = open_log(__name__)

_LOOK_S = 2.0
"""How often nodes are counted."""

_STARTS = 3
"""Workers that may end while they start, before their node is left alone."""


class ClusterRun:
    """Shards of a run on the workers of a pool.

    A few shards for each worker are in flight, in the order of the items; what they yield is
    written to the run's folder as it comes, and read when its item asks. So the driver holds
    neither more nor less than on one machine, and --resume finds the same.
    """

    def __init__(self, run: GateRun, pool: Pool) -> None:
        self._run, self._pool = run, pool
        self._scheduler = Scheduler()
        self._census = Census(pool.nodes())
        self._has_gpus = any(node.gpus for node in self._census.nodes)
        self._shards: dict[str, Shard] = {}
        self._seats: dict[int, Seat] = {}
        self._yielded: dict[str, Outcome | Exception | None] = {}
        self._failed_starts: dict[str, int] = {}
        self._looked = -math.inf
        self._supplies = Supplies(run, pool.put)
        self._setup = self._supplies.setup()

    def begin(self, shards: Iterable[Shard]) -> None:
        """Hand all shards of the session to the scheduler, in the order of its items."""
        for shard in dict.fromkeys(shards):
            self._shards[shard.id] = shard
            self._scheduler.add([shard.id], self._lane(shard.cell))
        self._turn(0.0)

    def run(self, shard: Shard) -> Outcome:
        """What a shard yields, waited for; raises what a worker raised."""
        if shard.id not in self._shards:  # it was run before, and is asked for again
            self._shards[shard.id] = shard
            self._scheduler.put_first(shard.id, self._lane(shard.cell))
        while shard.id not in self._yielded:
            self._turn(1.0)
        found = self._yielded.pop(shard.id)
        del self._shards[shard.id]
        if isinstance(found, Exception):
            raise found
        if found is None:
            content = journal.read_outcome(self._run.run_dir, shard.id)
            if content is None:
                raise PillsnapError("a shard's outcome is gone", where=self._run.run_dir)
            found = Outcome(**content)
        return found

    def end(self) -> list[tuple[str, str]]:
        """Count the nodes for the last time; gives those with a folder of files of this run, and
        the folder."""
        self._census.see(self._pool.nodes())
        return self._census.scratch()

    def as_dict(self) -> dict[str, Any]:
        """What the report says of the cluster."""
        return {
            "ray": self._pool.version,
            "nodes": list(self._census.as_dicts()),
            "losses": [asdict(loss) for loss in self._scheduler.losses],
        }

    def _lane(self, cell: Cell) -> Lane:
        run = self._run
        return lane_of(cell, run.config, run.selection, has_gpus=self._has_gpus)

    def _turn(self, seconds: float) -> None:
        """Keep workers busy, and heed what they say within so many seconds."""
        self._place_workers()
        while not all([self._send(worker, name) for worker, name in self._scheduler.assign()]):
            pass  # what an earlier run has yielded took no worker
        for event in self._pool.wait(seconds):
            self._heed(event)

    def _place_workers(self) -> None:
        """Start workers where nodes have a place and shards wait, and end those without work."""
        if time.monotonic() < self._looked + _LOOK_S:
            return
        self._looked = time.monotonic()
        scheduler, threads = self._scheduler, self._run.threads
        for worker in scheduler.idle() if any(map(scheduler.waiting, LANES)) else ():
            scheduler.close(worker)
            self._forget(worker)
        nodes = self._census.see(self._pool.nodes())
        fit = [node for node in nodes if node.id not in self._census.unfit]
        lanes = [lane for lane in LANES if scheduler.waiting(lane)]
        for lane in lanes:
            if not any(node.serves(lane, threads) for node in fit):
                self._give_up(lane)
        busy = [lane for lane in LANES if scheduler.waiting(lane) or scheduler.in_flight()[lane]]
        for node in fit:
            seats = node.seats(threads, busy)
            contended = sum(seats.values()) > 1
            for lane in lanes:
                taken = sum(s.node == node.id and s.lane == lane for s in self._seats.values())
                starting = sum(s.lane == lane for s in self._seats.values())
                free = min(seats[lane] - taken, scheduler.waiting(lane) - starting)
                for _ in range(free):
                    seat = Seat(node.id, lane, contended)
                    self._seats[self._pool.start(seat, threads, self._setup)] = seat

    def _give_up(self, lane: Lane) -> None:
        nodes, unfit = self._census.alive(), self._census.unfit
        said: dict[Cell, str] = {}
        for name in self._scheduler.drain(lane):
            cell = self._shards[name].cell
            if cell not in said:
                said[cell] = str(cannot_serve(cell, lane, self._run.threads, nodes, unfit))
            self._yielded[name] = Outcome(name, ("unmeasured", said[cell]))

    def _send(self, worker: int, name: str) -> bool:
        """Send a shard to a worker; False where an earlier part of the run has done it, or what
        fails here is all that it yields: nobody would wait for another item's traceback."""
        shard = self._shards[name]
        try:
            known = self._run.recall(shard) if self._run.resume else None
            if known is None:
                self._pool.send(worker, self._supplies.job(shard))
                return True
            self._yielded[name] = known
        except Exception as error:
            self._yielded[name] = error
        self._scheduler.done(worker, name)
        return False

    def _heed(self, event: Event) -> None:
        seat, name = self._seats[event.worker], event.shard
        if event.lost is not None:
            self._lose(event.worker, event.lost)
        elif name is None and event.error is not None:
            self._census.leave_out(seat.node, event.error)
            self._forget(event.worker)
        elif name is None:
            self._failed_starts.pop(seat.node, None)
            self._census.describe(seat.node, event.value)
            self._scheduler.open(event.worker, seat.lane)
        elif event.error is not None:
            self._scheduler.done(event.worker, name)
            self._yielded[name] = event.error
        elif event.value.outcome is None:
            self._supplies.find_model(self._shards[name].cell)
            self._scheduler.again(event.worker, name)
        else:
            self._scheduler.done(event.worker, name)
            self._keep(name, event.value, seat)

    def _lose(self, worker: int, why: str) -> None:
        seat = self._seats.pop(worker)
        self._census.see(self._pool.nodes())
        reason = self._census.reason_of_loss(seat.node, why)
        if not self._scheduler.is_open(worker):
            starts = self._failed_starts[seat.node] = self._failed_starts.get(seat.node, 0) + 1
            if starts >= _STARTS:
                self._census.leave_out(seat.node, reason)
        given_up = self._scheduler.lost(worker, self._census.name(seat.node), reason)
        if given_up is not None:
            self._yielded[given_up] = Outcome(given_up, ("unmeasured", self._lost_often(given_up)))
        self._looked = -math.inf

    def _lost_often(self, name: str) -> str:
        losses = self._scheduler.losses_of(name)[-ATTEMPTS:]
        return str(
            PillsnapError(
                "every worker that ran this shard was lost",
                where=name,
                got="; ".join(f"{loss.node}: {loss.reason}" for loss in losses),
                hint="run it here, without --ray, to see what ends its process",
            )
        )

    def _forget(self, worker: int) -> None:
        self._seats.pop(worker, None)
        self._pool.stop(worker)
        self._looked = -math.inf

    def _keep(self, name: str, answer: Answer, seat: Seat) -> None:
        """Write what a shard yielded to the run's folder."""
        shard, outcome = self._shards[name], Outcome(**json.loads(answer.outcome or "{}"))
        for warning in answer.warnings:
            log.warning("%s: %s", self._census.name(seat.node), warning)
        self._census.note_scratch(seat.node, answer.scratch)
        try:
            if outcome.file is not None and answer.records is not None:
                write_atomic(Path(outcome.file), answer.records)
            outcome = self._run.keep(shard, outcome)
        except PillsnapError as error:
            outcome = Outcome(name, ("unmeasured", str(error)))
        except Exception as error:  # it is its own item's
            self._yielded[name] = error
            return
        self._census.count(seat.node, shard.cell, outcome)
        # In the journal it takes no memory.
        self._yielded[name] = None if outcome.inputs is not None else outcome
