"""All that is Ray's: the cluster, its nodes, workers on them, and what these answer."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pillsnap.core.errors import first_line
from pillsnap.gate.cluster.connecting import connect
from pillsnap.gate.cluster.jobs import Answer, Job, Seat
from pillsnap.gate.cluster.nodes import Node

_CLEAN_S = 15
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Event:
    """What became of a worker's call: of its start where there is no shard.

    Attributes:
        value: what it returned.
        error: what it raised.
        lost: why the worker is gone; it holds nothing any more.
    """

    worker: int
    shard: str | None
    value: Any = None
    error: Exception | None = None
    lost: str | None = None


class Pool:
    """Workers on the nodes of a cluster.

    Args:
        address: host:port of the cluster's head, "auto", or "local".

    Raises:
        ConfigError: as connect.
    """

    def __init__(self, address: str) -> None:
        import ray

        self._owns = not ray.is_initialized()
        if self._owns:
            connect(address)
        self.version = ray.__version__
        self._numbers = itertools.count(1)
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, str | None]] = {}

    def nodes(self) -> list[Node]:
        """Every node that is alive, the driver's first."""
        import ray

        own = ray.get_runtime_context().get_node_id()
        alive = [node for node in ray.nodes() if node["Alive"]]
        alive.sort(key=lambda node: (node["NodeID"] != own, node["NodeID"]))
        names = [node["NodeManagerHostname"] for node in alive]
        found = []
        for node in alive:
            name, has = node["NodeManagerHostname"], node["Resources"]
            if names.count(name) > 1:  # several on one machine
                name = f"{name}-{node['NodeID'][:6]}"
            found.append(Node(node["NodeID"], name, int(has.get("CPU", 0)), int(has.get("GPU", 0))))
        return found

    def put(self, value: object) -> Any:
        """Keep a value for all nodes, to each of which it travels once; gives its handle."""
        import ray

        return ray.put(value)

    def start(self, seat: Seat, threads: int, setup: Any) -> int:
        """Start a worker on a node, with a CPU for every thread; an event says when it is ready,
        with what it is like.

        Args:
            setup: handle of the Setup.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        worker = next(self._numbers)
        there = NodeAffinitySchedulingStrategy(seat.node, soft=False)
        gpus = 1 if seat.lane == "gpu" else 0
        made: Any = ray.remote(_actor_class())
        options = made.options(num_cpus=threads, num_gpus=gpus, scheduling_strategy=there)
        actor = options.remote(sys.path)
        self._actors[worker] = actor
        self._calls[actor.begin.remote(setup, seat)] = (worker, None)
        return worker

    def send(self, worker: int, job: Job) -> None:
        """Have a worker run a shard, after what it was sent before."""
        self._calls[self._actors[worker].run.remote(job)] = (worker, job.shard.id)

    def stop(self, worker: int) -> None:
        """End a worker's process, whatever it does."""
        import ray

        actor = self._actors.pop(worker, None)
        if actor is not None:
            ray.kill(actor)
            self._calls = {ref: call for ref, call in self._calls.items() if call[0] != worker}

    def wait(self, seconds: float) -> list[Event]:
        """What has happened; nothing after so many seconds. Answers come before losses: the shards
        that are still held when a worker is found lost have no answer."""
        import ray

        if not self._calls:
            time.sleep(min(seconds, _PAUSE_S))
            return []
        ready, rest = ray.wait(list(self._calls), num_returns=1, timeout=seconds)
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        events = [self._event(ref) for ref in ready]
        lost = {event.worker: event for event in reversed(events) if event.lost is not None}
        for worker in lost:
            self.stop(worker)
        return [event for event in events if event.lost is None] + [*lost.values()]

    def close(self, scratch: Iterable[tuple[str, str]]) -> None:
        """End all workers, and remove what they have left on nodes.

        Args:
            scratch: ids of nodes, and the folder of each.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._calls.clear()
        for worker in list(self._actors):
            self.stop(worker)
        remove = ray.remote(_remover())
        alive = {node.id for node in self.nodes()}
        done = [
            remove.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(folder)
            for node, folder in scratch
            if node in alive
        ]
        if done:
            ray.wait(done, num_returns=len(done), timeout=_CLEAN_S)
        if self._owns:
            ray.shutdown()

    def _event(self, ref: Any) -> Event:
        import ray
        from ray.exceptions import RayError, RayTaskError

        worker, shard = self._calls.pop(ref)
        try:
            return Event(worker, shard, value=ray.get(ref))
        except RayTaskError as error:
            if isinstance(error.cause, MemoryError):
                return Event(worker, shard, lost="out of memory")
            return Event(worker, shard, error=error)
        except RayError as error:
            return Event(worker, shard, lost=_reason(error))


def _actor_class() -> type:
    """Made here, so that it travels by value: only with the driver's path does a node find pillsnap
    where that is not installed."""

    class Actor:
        def __init__(self, path: list[str]) -> None:
            import sys

            sys.path[:0] = [each for each in path if each not in sys.path]

        def begin(self, setup: Any, seat: Any) -> Any:
            import ray

            from pillsnap.gate.cluster.worker import Worker, describe_machine

            self.worker = Worker(setup, seat, ray.get)
            return describe_machine()

        def run(self, job: Job) -> Answer:
            return self.worker.run(job)

    return Actor


def _remover() -> Any:
    def remove(folder: str) -> None:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)

    return remove


def _reason(error: Exception) -> str:
    from ray.exceptions import ActorUnavailableError

    if isinstance(error, ActorUnavailableError):
        return "its node does not answer"
    text = str(error)
    if "running low on memory" in text:
        return "out of memory"
    told = [line.strip() for line in text.splitlines() if "The actor is dead because" in line]
    return first_line(told[0] if told else error, most=160)
