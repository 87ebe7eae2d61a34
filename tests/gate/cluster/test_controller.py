"""A run on a cluster, beside the same run on one machine; the cluster's workers are of this
process, see inline_pool.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import pillsnap.engines.registry as registry
from pillsnap.compare.outcome import Outcome
from pillsnap.config.cells import Shard
from pillsnap.config.load import load_config
from pillsnap.config.selection import Selection
from pillsnap.gate import journal
from pillsnap.gate.cluster.controller import ClusterRun
from pillsnap.gate.cluster.nodes import Node
from pillsnap.gate.cluster.pool import Pool
from pillsnap.gate.cluster.worker import describe_machine
from pillsnap.gate.ledger import Ledger
from pillsnap.gate.run import GateRun
from tests.gate.cluster.inline_pool import Fate, InlinePool
from tests.plugin.numpy_engine import register_numpy
from tests.plugin.project import make_project

TWO = (Node("1", "a", 1, 0), Node("2", "b", 1, 0))


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers change in their process."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    register_numpy()


@pytest.fixture
def run(tmp_path: Path) -> GateRun:
    """A run of the numpy engine, with hard samples."""
    compare = {"hard_per_bin": 2, "hardness_bins": [0.25, 0.7, 0.9, 1.0], "per_class_k": 6}
    project = make_project(cast(Any, SimpleNamespace(path=tmp_path)), shard_size=2, **compare)
    config = load_config(project.path / "config.yaml", {})
    return GateRun(config, Selection(engines=("numpy",)), threads=1, run_dir=tmp_path / "run")


@pytest.fixture
def shards(run: GateRun) -> list[Shard]:
    return [shard for shard in run.plan.shards() if shard.cell.mode == "coverage"]


def on(run: GateRun, fate: Fate = lambda *_: None, nodes: tuple[Node, ...] = TWO) -> ClusterRun:
    pool = InlinePool(nodes, run.run_dir.parent / "nodes", fate)
    return ClusterRun(run, cast(Pool, pool))


def pool_of(cluster: ClusterRun) -> InlinePool:
    return cast(InlinePool, cluster._pool)


def read(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def without_times(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(outcome.as_json())
    return {**found, "host": None, "seconds": 0, "timing": None}


def test_shards_yield_what_they_yield_on_one_machine(run: GateRun, shards: list[Shard]) -> None:
    expected = [without_times(run.run(shard)) for shard in shards]
    records = [read(each["file"]) for each in expected]
    run = replace(run, run_dir=run.run_dir.with_name("other"))
    cluster = on(run)
    cluster.begin(shards)
    found = [cluster.run(shard) for shard in shards]
    assert {outcome.host["node"] for outcome in found if outcome.host} == {"1", "2"}
    assert [read(outcome.file) for outcome in found] == records
    for outcome, known in zip(map(without_times, found), expected, strict=True):
        known["file"] = outcome["file"]
        assert outcome == known
    assert pool_of(cluster).most <= 4
    # What the journal has is taken over by --resume, with a cluster and without.
    again = on(replace(run, resume=True))
    again.begin(shards)
    plain = [shard for shard in shards if not shard.cell.hard]
    assert [again.run(shard) for shard in plain] == found[: len(plain)]
    assert sum(node["shards"] for node in again.as_dict()["nodes"]) == 0
    assert replace(run, resume=True).run(shards[0]) == found[0]


def test_results_that_nobody_has_asked_for_yet_lie_on_the_disk(
    run: GateRun, shards: list[Shard]
) -> None:
    """One slow shard in front must not fill the driver's memory."""
    cluster = on(run)
    cluster.begin(shards)
    cluster.run(shards[-1])
    done = [shard.id for shard in shards if journal.read_outcome(run.run_dir, shard.id)]
    assert len(done) >= len(shards) - 3
    # But of hard samples that there are none of.
    assert not any(outcome.samples for outcome in cluster._yielded.values() if outcome)
    ledger = Ledger(run)
    ledger.expect(f"[{shard.id}]" for shard in shards)
    for shard in shards:
        ledger.add(cluster.run(shard).as_dict())
    assert [result.verdict.name for result in ledger.results()] == ["equivalent"] * 3


def test_what_a_lost_worker_held_is_run_elsewhere_and_counted(
    run: GateRun, shards: list[Shard]
) -> None:
    lost: list[str | None] = []

    def fate(worker: int, shard: str | None) -> str | None:
        if worker == 0 and shard is not None and not lost:
            lost.append(shard)
            pool_of(cluster).alive.pop(0)
            return "connection closed"
        return None

    cluster = on(run, fate)
    cluster.begin(shards)
    assert all(cluster.run(shard).failure is None for shard in shards)
    facts = cluster.as_dict()
    assert facts["losses"] == [{"shard": lost[0], "node": "a", "reason": "its node is gone"}]
    assert [(node["name"], node["lost"]) for node in facts["nodes"]] == [("a", True), ("b", False)]
    assert facts["nodes"][1]["shards"] == len(shards)


def test_a_shard_that_ends_every_worker_fails_and_the_others_do_not(
    run: GateRun, shards: list[Shard]
) -> None:
    deadly = shards[3].id
    cluster = on(run, lambda worker, shard: "killed" if shard == deadly else None)
    cluster.begin(shards)
    found = {shard.id: cluster.run(shard).failure for shard in shards}
    failure = found.pop(deadly)
    assert failure is not None and failure[0] == "unmeasured"
    assert "every worker that ran this shard was lost" in failure[1]
    assert failure[1].count("killed") == 4
    assert set(found.values()) == {None}


def test_nodes_whose_workers_do_not_start_are_left_alone_and_named(
    run: GateRun, shards: list[Shard]
) -> None:
    cluster = on(run, lambda worker, _: "segfault" if worker % 2 == 0 else None)
    pool_of(cluster).start = bad_start(pool_of(cluster))  # type: ignore[method-assign]
    cluster.begin(shards)
    assert all(cluster.run(shard).failure is None for shard in shards)
    bad, good = cluster.as_dict()["nodes"]
    assert bad["unfit"] == "segfault" and bad["shards"] == 0
    assert good["unfit"] is None and good["shards"] == len(shards)


def bad_start(pool: InlinePool) -> Any:
    """Numbers of workers on node 1 are even, on others odd."""
    start = pool.start

    def numbered(seat: Any, threads: int, setup: int) -> int:
        if (len(pool.started) % 2 == 0) != (seat.node == "1"):
            pool.started.append(seat)
        return start(seat, threads, setup)

    return numbered


def test_where_no_node_can_serve_a_cell_its_shards_fail_at_once(
    run: GateRun, shards: list[Shard]
) -> None:
    cluster = on(replace(run, threads=2))
    cluster.begin(shards)
    for shard in shards:
        failure = cluster.run(shard).failure
        assert failure is not None and failure[0] == "unmeasured"
        assert "a: 1 CPU, no GPU; b: 1 CPU, no GPU" in failure[1]
    assert pool_of(cluster).started == []


def test_what_nodes_run_that_the_driver_does_not_is_reported(
    run: GateRun, shards: list[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = {**describe_machine(), "python": "3.11.0", "code": "f" * 64}
    monkeypatch.setattr("pillsnap.gate.cluster.census.describe_machine", lambda: driver)
    cluster = on(run, nodes=TWO[:1])
    cluster.begin(shards[:1])
    cluster.run(shards[0])
    python, code = cluster.as_dict()["nodes"][0]["differences"]
    assert python.startswith("Python 3.") and python.endswith("(driver 3.11.0)")
    assert code.endswith("(driver ffffffffffff)")


def test_what_fails_on_the_driver_fails_one_item(run: GateRun, shards: list[Shard]) -> None:
    cluster = on(run)
    job = cluster._supplies.job

    def fail(shard: Shard) -> Any:
        if shard is shards[0]:
            raise ZeroDivisionError
        return job(shard)

    cluster._supplies.job = fail  # type: ignore[method-assign]
    cluster.begin(shards[:3])
    with pytest.raises(ZeroDivisionError):
        cluster.run(shards[0])
    assert [cluster.run(shard).failure for shard in shards[1:3]] == [None, None]


def test_a_node_that_joins_is_used(run: GateRun, shards: list[Shard]) -> None:
    cluster = on(run, nodes=TWO[:1])
    cluster.begin(shards)
    cluster.run(shards[0])
    pool_of(cluster).alive.append(TWO[1])
    cluster._looked = 0.0
    for shard in shards[1:]:
        cluster.run(shard)
    assert all(node["shards"] > 0 for node in cluster.as_dict()["nodes"])


def test_a_shard_is_run_again_where_its_item_is(run: GateRun, shards: list[Shard]) -> None:
    cluster = on(run)
    cluster.begin([shards[0], shards[0]])  # of two test files
    first, second = cluster.run(shards[0]), cluster.run(shards[0])
    assert without_times(first) == without_times(second)
    assert sum(node["shards"] for node in cluster.as_dict()["nodes"]) == 2


def test_data_that_cannot_be_read_are_said_by_each_shard(run: GateRun, tmp_path: Path) -> None:
    missing = replace(run.config.data, val=replace(run.config.data.val, single=tmp_path / "none"))
    run = replace(run, config=replace(run.config, data=missing), planned=None)
    (shard,) = [
        each
        for each in run.plan.shards()
        if (each.cell.stage, each.cell.mode) == ("classification", "smoke")
    ]
    expected = run.run(shard).failure
    cluster = on(run)
    cluster.begin([shard])
    assert expected is not None and "none" in expected[1]
    assert list(cluster.run(shard).failure or ()) == list(expected)
