"""Workers of this process in the place of a cluster's: what travels is pickled all the same."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pillsnap.gate.cluster.jobs import Job, Seat
from pillsnap.gate.cluster.nodes import Node
from pillsnap.gate.cluster.pool import Event
from pillsnap.gate.cluster.worker import Worker, describe_machine

Fate = Callable[[int, str | None], str | None]
"""Why a worker is lost with a shard, or when it starts; None where it is not."""

# Nodes are counted again before that.
_IDLE_S = 20


class InlinePool:
    """Runs the oldest call whenever it is waited for.

    Attributes:
        most: calls that were in flight at once.
        started: seats of all workers.
    """

    version = "inline"

    def __init__(
        self, nodes: Iterable[Node], temp: Path, fate: Fate = lambda worker, shard: None
    ) -> None:
        self.alive = list(nodes)
        self.most, self.started = 0, list[Seat]()
        self._temp, self._fate = temp, fate
        self._kept: list[bytes] = []
        self._workers: dict[int, Worker | tuple[int, Seat]] = {}
        self._calls: deque[tuple[int, bytes | None]] = deque()
        self._busy = time.monotonic()

    def nodes(self) -> list[Node]:
        return self.alive

    def put(self, value: object) -> int:
        self._kept.append(pickle.dumps(value))
        return len(self._kept) - 1

    def start(self, seat: Seat, threads: int, setup: int) -> int:
        worker = len(self.started)
        self.started.append(seat)
        self._workers[worker] = (setup, seat)
        self._calls.append((worker, None))
        return worker

    def send(self, worker: int, job: Job) -> None:
        self._calls.append((worker, pickle.dumps(job)))
        self.most = max(self.most, sum(call is not None for _, call in self._calls))

    def stop(self, worker: int) -> None:
        self._workers.pop(worker, None)
        self._calls = deque(call for call in self._calls if call[0] != worker)

    def wait(self, seconds: float) -> list[Event]:
        if not self._calls:
            assert time.monotonic() < self._busy + _IDLE_S, "a shard is waited for that nobody runs"
            return []
        self._busy = time.monotonic()
        worker, call = self._calls.popleft()
        job: Job | None = None if call is None else pickle.loads(call)
        shard = None if job is None else job.shard.id
        why = self._fate(worker, shard)
        if why is not None:
            self.stop(worker)
            return [Event(worker, shard, lost=why)]
        try:
            return [Event(worker, shard, value=self._call(worker, job))]
        except Exception as error:
            return [Event(worker, shard, error=error)]

    def close(self, scratch: object) -> None:
        self._workers.clear()

    def _call(self, number: int, job: Job | None) -> Any:
        worker = self._workers[number]
        if isinstance(worker, tuple):
            setup, seat = worker
            worker = Worker(self._fetch(setup), seat, self._fetch, self._temp)
            self._workers[number] = worker
            return describe_machine()
        assert job is not None
        return pickle.loads(pickle.dumps(worker.run(job)))

    def _fetch(self, handle: int) -> Any:
        return pickle.loads(self._kept[handle])
