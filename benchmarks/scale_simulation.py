"""How the scheduler of `--ray` does at a size that nobody has at hand: nodes that fail, slow nodes,
uneven shards.

    python benchmarks/scale_simulation.py [--images 100000000] [--nodes 100] [--workers 32]
        [--shard-size 2000] [--images-per-s 2.4] [--spread 0.25] [--slow 0.05] [--slowness 3]
        [--mtbf-h 50] [--repair-s 600] [--deadly 2] [--restart-s 30] [--driver-ms 5] [--seed 0]

Events of simulated time around the very class that decides in a run
(pillsnap.gate.cluster.scheduling.Scheduler). A worker takes a lognormal time of median
shard-size / images-per-s for a shard; nodes fail at random, once in mtbf-h each, with all their
workers, and are back after repair-s; `deadly` shards end every worker that runs them, which is back
after restart-s; the driver handles one answer at a time, in driver-ms.

    makespan_over_ideal    time to the last answer over that of all work at the speed of all nodes
    shards_lost            given up, after as many attempts as the scheduler allows; the deadly ones
    repeated               runs of a shard that were lost and made again
    peak_in_flight         most shards that workers held at once
    driver_busy            part of the time in which the driver handled answers
    driver_held_bytes      most bytes of jobs in flight, of shards that wait and of losses
    driver_traffic_bytes   all jobs and records that went through the driver
    scheduler_us           time of this processor that the scheduler took, by the shard
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from projects import machine

from pillsnap.data.datasets import Sample
from pillsnap.gate.cluster.scheduling import ATTEMPTS, WINDOW, Scheduler

RECORD_BYTES = 385
"""Of a classified photo on its way to the driver: 304 of its record and 81 of the outcome, on the
demo in shards of 32."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("--images", 100_000_000),
        ("--nodes", 100),
        ("--workers", 32),
        ("--shard-size", 2000),
        ("--images-per-s", 2.4),
        ("--spread", 0.25),
        ("--slow", 0.05),
        ("--slowness", 3.0),
        ("--mtbf-h", 50.0),
        ("--repair-s", 600.0),
        ("--deadly", 2),
        ("--restart-s", 30.0),
        ("--driver-ms", 5.0),
        ("--seed", 0),
    ):
        parser.add_argument(name, type=type(default), default=default, help=f"default: {default}")
    arguments = parser.parse_args()
    result = Cluster(arguments).run()
    print(json.dumps({"benchmark": "scale_simulation", **vars(arguments), **machine(), **result}))
    return 0


class Cluster:
    """Workers are numbers that never come again; each runs what it is sent in order."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._given = arguments
        self._rng = np.random.default_rng(arguments.seed)
        count = math.ceil(arguments.images / arguments.shard_size)
        self._seconds = self._rng.lognormal(
            math.log(arguments.shard_size / arguments.images_per_s), arguments.spread, count
        )
        self._deadly = set(self._rng.choice(count, arguments.deadly, replace=False).tolist())
        slow = self._rng.permutation(arguments.nodes) < round(arguments.slow * arguments.nodes)
        self._slowness = np.where(slow, arguments.slowness, 1.0)
        self._scheduler = Scheduler()
        self._scheduler.add(map(str, range(count)), "cpu")
        self._numbers = itertools.count()
        self._up: set[int] = set()
        self._node_of: dict[int, int] = {}
        self._idle: set[int] = set()
        self._sent_to: dict[int, deque[str]] = {}  # what a worker has not begun
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._ties = itertools.count()
        self._left = count
        self._peak = self._given_up = self._sent = 0
        self._driver_free = self._driver_busy = self._taken = 0.0

    def run(self) -> dict[str, Any]:
        given, count = self._given, self._left
        for node in range(given.nodes):
            self._at(0.0, self._back, node)
        now = 0.0
        while self._left:
            now, _, happens, about = heapq.heappop(self._events)
            happens(now, *about)
        ideal = self._seconds.sum() / (given.workers * (1 / self._slowness).sum())
        job, losses = self._job_bytes(), self._scheduler.losses
        waiting = sum(sys.getsizeof(str(index)) + 8 for index in range(count))
        return {
            "shards": count,
            "makespan_h": round(now / 3600, 2),
            "ideal_h": round(ideal / 3600, 2),
            "makespan_over_ideal": round(now / ideal, 3),
            "shards_lost": self._given_up,
            "repeated": len(losses) - self._given_up,
            "attempts": ATTEMPTS,
            "window": WINDOW,
            "peak_in_flight": self._peak,
            "driver_busy": round(self._driver_busy / now, 3),
            "driver_held_bytes": self._peak * job + waiting + sum(map(sys.getsizeof, losses)),
            "driver_traffic_bytes": self._sent * job + given.images * RECORD_BYTES,
            "scheduler_us": round(1e6 * self._taken / count, 1),
        }

    def _at(self, moment: float, happens: Callable[..., None], *about: Any) -> None:
        heapq.heappush(self._events, (moment, next(self._ties), happens, about))

    def _back(self, now: float, node: int) -> None:
        """A node is there, all of its workers idle."""
        self._up.add(node)
        for _ in range(self._given.workers):
            self._open(node)
        self._at(now + self._rng.exponential(3600 * self._given.mtbf_h), self._fails, node)
        self._assign(now)

    def _open(self, node: int) -> None:
        worker = next(self._numbers)
        self._node_of[worker], self._sent_to[worker] = node, deque()
        self._idle.add(worker)
        self._timed(self._scheduler.open, worker, "cpu")

    def _fails(self, now: float, node: int) -> None:
        self._up.remove(node)
        for worker in [each for each, of in self._node_of.items() if of == node]:
            self._lose(worker)
        self._at(now + self._given.repair_s, self._back, node)
        self._assign(now)

    def _lose(self, worker: int) -> None:
        del self._node_of[worker], self._sent_to[worker]
        self._idle.discard(worker)
        if self._timed(self._scheduler.lost, worker, "node", "gone") is not None:
            self._given_up += 1
            self._left -= 1

    def _dies(self, now: float, worker: int) -> None:
        if worker in self._node_of:
            self._at(now + self._given.restart_s, self._restarts, self._node_of[worker])
            self._lose(worker)
            self._assign(now)

    def _restarts(self, now: float, node: int) -> None:
        if node in self._up:
            self._open(node)
            self._assign(now)

    def _answers(self, now: float, worker: int, shard: str) -> None:
        """A worker is done with a shard; the driver heeds it when it comes to that."""
        if worker not in self._node_of:
            return  # it was lost meanwhile
        begin = max(now, self._driver_free)
        self._driver_free = begin + self._given.driver_ms / 1e3
        self._driver_busy += self._driver_free - begin
        self._at(self._driver_free, self._heeded, worker, shard)
        self._idle.add(worker)
        self._go_on(now, worker)

    def _heeded(self, now: float, worker: int, shard: str) -> None:
        if worker in self._node_of:
            self._left -= 1
            self._timed(self._scheduler.done, worker, shard)
            self._assign(now)

    def _assign(self, now: float) -> None:
        for worker, shard in self._timed(self._scheduler.assign):
            self._sent += 1
            self._sent_to[worker].append(shard)
            self._go_on(now, worker)
        self._peak = max(self._peak, self._scheduler.in_flight()["cpu"])

    def _go_on(self, now: float, worker: int) -> None:
        if worker not in self._idle or not self._sent_to[worker]:
            return
        self._idle.remove(worker)
        shard = self._sent_to[worker].popleft()
        end = now + self._seconds[int(shard)] * self._slowness[self._node_of[worker]]
        if int(shard) in self._deadly:
            self._at(end, self._dies, worker)
        else:
            self._at(end, self._answers, worker, shard)

    def _timed(self, call: Any, *arguments: Any) -> Any:
        started = time.process_time()
        try:
            return call(*arguments)
        finally:
            self._taken += time.process_time() - started

    def _job_bytes(self) -> int:
        """Of a shard's samples as they travel: ids and labels."""
        width, folder = len(str(self._given.images)), Path("/data/val")
        samples = [
            Sample(f"K-{index % 5000:06d}/{index:0{width}d}.jpg", folder, index % 5000)
            for index in range(self._given.shard_size)
        ]
        return len(pickle.dumps(samples))


if __name__ == "__main__":
    sys.exit(main())
