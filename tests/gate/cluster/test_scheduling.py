"""Which shard goes to which worker."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pillsnap.gate.cluster.scheduling import ATTEMPTS, WINDOW, Lane, Scheduler


def make(shards: int, *workers: Lane, lane: Lane = "cpu") -> Scheduler:
    scheduler = Scheduler()
    scheduler.add(map(str, range(shards)), lane)
    for number, of_lane in enumerate(workers):
        scheduler.open(number, of_lane)
    return scheduler


def test_shards_go_out_in_order_a_few_for_each_worker() -> None:
    scheduler = make(100, "cpu", "cpu")
    given = scheduler.assign()
    assert given == [(0, "0"), (1, "1"), (0, "2"), (1, "3")]
    assert scheduler.assign() == []  # until one is done
    scheduler.done(1, "1")
    assert scheduler.assign() == [(1, "4")]
    assert scheduler.in_flight() == {"cpu": 2 * WINDOW}
    assert scheduler.waiting("cpu") == 95


def test_the_last_shards_wait_for_whoever_is_free_first() -> None:
    scheduler = make(3, "cpu", "cpu")
    assert scheduler.assign() == [(0, "0"), (1, "1")]
    scheduler.done(1, "1")
    assert scheduler.assign() == [(1, "2")]


def test_a_lane_is_served_by_its_own_workers_alone() -> None:
    scheduler = make(4, "cpu", "gpu", lane="gpu")
    scheduler.add(["c"], "cpu")
    assert sorted(scheduler.assign()) == [(0, "c"), (1, "0"), (1, "1")]
    scheduler.done(0, "c")
    assert scheduler.idle() == [0]
    scheduler.close(0)
    assert scheduler.workers() == Counter(gpu=1)


def test_what_a_lost_worker_held_comes_first_and_only_what_it_ran_is_counted() -> None:
    scheduler = make(9, "cpu", "cpu")
    scheduler.assign()
    assert scheduler.lost(0, "a", "killed") is None
    assert [(loss.shard, loss.node) for loss in scheduler.losses] == [("0", "a")]
    scheduler.open(2, "cpu")
    assert [shard for _, shard in scheduler.assign()] == ["0", "2"]
    assert scheduler.lost(7, "b", "it never came up") is None
    assert len(scheduler.losses) == 1


def test_a_shard_that_ends_every_worker_is_given_up() -> None:
    scheduler = make(3)
    found = []
    for number in range(ATTEMPTS):
        scheduler.open(number, "cpu")
        scheduler.assign()
        found.append(scheduler.lost(number, "a", "killed"))
    assert found == [None] * (ATTEMPTS - 1) + ["0"]
    assert len(scheduler.losses_of("0")) == ATTEMPTS
    scheduler.open(9, "cpu")
    assert [shard for _, shard in scheduler.assign()] == ["1", "2"]


def test_a_shard_that_could_not_run_yet_is_the_next_and_not_counted() -> None:
    scheduler = make(9, "cpu")
    scheduler.assign()
    scheduler.again(0, "0")
    assert scheduler.assign() == [(0, "0")]
    assert scheduler.losses == []
    assert scheduler.drain("cpu") == [str(number) for number in range(2, 9)]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_lost_every_shard_is_done_once_or_given_up(seed: int) -> None:
    clock = random.Random(seed)
    scheduler = make(300, *["cpu"] * 4)
    held: dict[int, list[str]] = {number: [] for number in range(4)}
    ended: Counter[str] = Counter()
    most = 0
    while sum(ended.values()) < 300:
        for worker, shard in scheduler.assign():
            held[worker].append(shard)
        most = max(most, sum(map(len, held.values())))
        worker = clock.choice([number for number in held if held[number]])
        if clock.random() < 0.3:
            del held[worker]
            given_up = scheduler.lost(worker, "node", "gone")
            ended.update([given_up] if given_up is not None else [])
            held[max([*held, worker]) + 1] = []
            scheduler.open(max(held), "cpu")
        else:
            shard = held[worker].pop(0)
            scheduler.done(worker, shard)
            ended[shard] += 1
    assert set(ended.values()) == {1}
    assert most <= 4 * WINDOW
