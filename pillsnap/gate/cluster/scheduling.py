"""Which shard goes to which worker: in order, a few at a time, and again where a worker was lost.

Knows shards by their ids and workers by theirs, and nothing of Ray.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Lane = Literal["cpu", "gpu"]

LANES: tuple[Lane, ...] = ("gpu", "cpu")
"""Kinds of workers; a shard is for one of them. GPUs are dealt out first."""

WINDOW = 2
"""Shards that a worker is given: the one that it runs, and the next."""

ATTEMPTS = 4
"""Workers that a shard may be lost with."""


@dataclass(frozen=True)
class Loss:
    """A worker that was lost with a shard that it was running."""

    shard: str
    node: str
    reason: str


@dataclass(eq=False)
class Scheduler:
    """Shards that wait, and those that workers hold.

    Attributes:
        losses: each is one run of a shard that is repeated, as often as ATTEMPTS allows.
    """

    losses: list[Loss] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queues: dict[Lane, deque[str]] = {lane: deque() for lane in LANES}
        self._lanes: dict[int, Lane] = {}
        self._held: dict[int, deque[str]] = {}

    def add(self, shards: Iterable[str], lane: Lane) -> None:
        self._queues[lane].extend(shards)

    def put_first(self, shard: str, lane: Lane) -> None:
        self._queues[lane].appendleft(shard)

    def open(self, worker: int, lane: Lane) -> None:
        """A worker is ready for shards."""
        self._lanes[worker], self._held[worker] = lane, deque()

    def close(self, worker: int) -> None:
        """A worker that holds none gets no more."""
        assert not self._held[worker]
        del self._held[worker], self._lanes[worker]

    def assign(self) -> list[tuple[int, str]]:
        """Workers and the shards that they are to run now. Nobody is given a second one while
        there are too few for all: it would wait behind the first while others idle."""
        given, workers = [], self.workers()
        for place in range(WINDOW):
            for worker, held in self._held.items():
                queue = self._queues[self._lanes[worker]]
                enough = place == 0 or len(queue) >= workers[self._lanes[worker]]
                if len(held) == place and queue and enough:
                    held.append(queue.popleft())
                    given.append((worker, held[-1]))
        return given

    def done(self, worker: int, shard: str) -> None:
        self._held[worker].remove(shard)

    def again(self, worker: int, shard: str) -> None:
        """The worker could not run a shard yet."""
        self.done(worker, shard)
        self.put_first(shard, self._lanes[worker])

    def lost(self, worker: int, node: str, reason: str) -> str | None:
        """A worker is gone, and what it holds waits again; the shard that it was running, where it
        was lost so often that it is given up.

        Workers run what they are given in order: the first is what may have ended this one.
        """
        held, lane = self._held.pop(worker, deque()), self._lanes.pop(worker, "cpu")
        given_up = None
        if held:
            self.losses.append(Loss(held[0], node, reason))
            if len(self.losses_of(held[0])) % ATTEMPTS == 0:
                given_up = held.popleft()
        self._queues[lane].extendleft(reversed(held))
        return given_up

    def losses_of(self, shard: str) -> list[Loss]:
        return [loss for loss in self.losses if loss.shard == shard]

    def drain(self, lane: Lane) -> list[str]:
        """The waiting shards of a lane, which wait no more."""
        found = list(self._queues[lane])
        self._queues[lane].clear()
        return found

    def waiting(self, lane: Lane) -> int:
        return len(self._queues[lane])

    def idle(self) -> list[int]:
        """Workers that hold nothing and will get nothing."""
        return [
            worker
            for worker, held in self._held.items()
            if not held and not self._queues[self._lanes[worker]]
        ]

    def is_open(self, worker: int) -> bool:
        return worker in self._held

    def workers(self) -> Counter[Lane]:
        """Open workers by lane."""
        return Counter(self._lanes.values())

    def in_flight(self) -> dict[Lane, int]:
        """Shards that workers hold, by lane."""
        found: dict[Lane, int] = defaultdict(int)
        for worker, held in self._held.items():
            found[self._lanes[worker]] += len(held)
        return found
