"""Which shard goes to which worker: in order, a few at a time, and again where a worker was lost.

Knows shards by their ids and workers by theirs, and nothing of Ray.
"""

from __future__ import annotations

from collections import Counter, deque
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
        # Workers of a lane by how many they hold: thousands are not looked through for each shard.
        self._room: dict[Lane, list[dict[int, None]]] = {
            lane: [{} for _ in range(WINDOW + 1)] for lane in LANES
        }
        self._workers: Counter[Lane] = Counter()
        self._in_flight: Counter[Lane] = Counter()

    def add(self, shards: Iterable[str], lane: Lane) -> None:
        self._queues[lane].extend(shards)

    def put_first(self, shard: str, lane: Lane) -> None:
        self._queues[lane].appendleft(shard)

    def open(self, worker: int, lane: Lane) -> None:
        """A worker is ready for shards."""
        self._lanes[worker], self._held[worker] = lane, deque()
        self._room[lane][0][worker] = None
        self._workers[lane] += 1

    def close(self, worker: int) -> None:
        """A worker that holds none gets no more."""
        assert not self._held[worker]
        self._remove(worker)

    def assign(self) -> list[tuple[int, str]]:
        """Workers and the shards that they are to run now. Nobody is given a second one while
        there are too few for all: it would wait behind the first while others idle."""
        given = []
        for lane, rooms in self._room.items():
            queue = self._queues[lane]
            for place in range(WINDOW):
                while queue and rooms[place] and (not place or len(queue) >= self._workers[lane]):
                    worker, shard = next(iter(rooms[place])), queue.popleft()
                    self._hold(worker, shard)
                    given.append((worker, shard))
        return given

    def done(self, worker: int, shard: str) -> None:
        held, lane = self._held[worker], self._lanes[worker]
        rooms = self._room[lane]
        del rooms[len(held)][worker]
        held.remove(shard)
        rooms[len(held)][worker] = None
        self._in_flight[lane] -= 1

    def again(self, worker: int, shard: str) -> None:
        """The worker could not run a shard yet."""
        self.done(worker, shard)
        self.put_first(shard, self._lanes[worker])

    def lost(self, worker: int, node: str, reason: str) -> str | None:
        """A worker is gone, and what it holds waits again; the shard that it was running, where it
        was lost so often that it is given up.

        Workers run what they are given in order: the first is what may have ended this one.
        """
        if worker not in self._held:  # it never came up
            return None
        lane, held = self._lanes[worker], self._remove(worker)
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
            for lane, rooms in self._room.items()
            if not self._queues[lane]
            for worker in rooms[0]
        ]

    def is_open(self, worker: int) -> bool:
        return worker in self._held

    def workers(self) -> Counter[Lane]:
        """Open workers by lane."""
        return self._workers

    def in_flight(self) -> Counter[Lane]:
        """Shards that workers hold, by lane."""
        return self._in_flight

    def _hold(self, worker: int, shard: str) -> None:
        held, lane = self._held[worker], self._lanes[worker]
        rooms = self._room[lane]
        del rooms[len(held)][worker]
        held.append(shard)
        rooms[len(held)][worker] = None
        self._in_flight[lane] += 1

    def _remove(self, worker: int) -> deque[str]:
        """Forget a worker; what it held."""
        held, lane = self._held.pop(worker), self._lanes.pop(worker)
        del self._room[lane][len(held)][worker]
        self._workers[lane] -= 1
        self._in_flight[lane] -= len(held)
        return held
