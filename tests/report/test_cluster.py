"""What a report says of a run on a cluster, whose nodes are of several kinds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillsnap.compare.node_speeds import over_budget, speeds_by_kind
from pillsnap.compare.outcome import Outcome
from pillsnap.config.settings import Config, Paths
from pillsnap.report import build_report
from pillsnap.report.against.speed import speed_changes
from pillsnap.report.clusters import cluster_lines
from pillsnap.report.evidence import Evidence
from pillsnap.report.page import render_page
from pillsnap.report.table import render
from tests.report.test_report import check, facts, make_result

ALONE = {"seconds": [0.02, 0.02]}


def outcome(kind: str | None, seconds: float, *, contended: bool = False, **timing: Any) -> Outcome:
    host = None if kind is None else {"node": kind, "kind": kind, "contended": contended}
    return Outcome("s", host=host, timing={"runs": [[10, seconds]], **timing})


FAST_AND_SLOW = [
    outcome("fast", 1.0, alone=ALONE),
    outcome("slow", 4.0, contended=True),
    outcome("fast", 3.0),
]


def test_times_of_several_kinds_of_node_are_not_mixed() -> None:
    speeds = speeds_by_kind(FAST_AND_SLOW, contended=False)
    assert list(speeds) == ["fast", "slow"]  # the first is of the first shard
    assert [each["images_per_s"] for each in speeds.values()] == [5.0, 2.5]
    assert [each["contended"] for each in speeds.values()] == [False, True]
    (alone,) = speeds_by_kind([outcome(None, 1.0)], contended=True).values()
    assert (alone["kind"], alone["contended"]) == (None, True)


def test_a_budget_holds_on_every_kind_that_measured_it() -> None:
    quiet = [
        replace(each, host={**(each.host or {}), "contended": False}) for each in FAST_AND_SLOW
    ]
    speeds = speeds_by_kind(quiet, contended=False)
    (breach,) = over_budget(speeds, {"batch_latency_p50_ms": 2500.0})
    assert breach.value == 4000.0  # of the slow kind, and not of both
    assert over_budget(speeds, {"batch_latency_p50_ms": 4500.0}) == ()
    # One image alone is timed with the first shard.
    assert over_budget(speeds, {"latency_p50_ms": 30.0}) == ()
    assert [each.value for each in over_budget(speeds, {"latency_p50_ms": 10.0})] == [20.0]
    assert over_budget(speeds, {"peak_memory_mib": 1.0})  # that nobody measured
    busy = speeds_by_kind(FAST_AND_SLOW, contended=False)
    assert over_budget(busy, {"batch_latency_p50_ms": 2500.0}) == ()


def cluster(**changes: Any) -> dict[str, Any]:
    node = {
        **{"name": "a", "id": "1", "cpus": 8, "gpus": 0, "lost": False, "unfit": None},
        **{"cpu": "fast", "gpu": None, "differences": [], "shards": 1},
        "cells": {"c": {"shards": 1, "execution": None}},
    }
    other = {**node, "name": "b", "shards": 0, "cells": {}, **changes}
    losses = [{"shard": "s", "node": "b", "reason": "its node is gone"}] * 2
    return {"ray": "2.60.0", "nodes": [node, other], "losses": losses}


def test_the_report_has_the_nodes_and_what_was_lost(tmp_path: Path) -> None:
    config = Config(paths=Paths(tmp_path))
    speeds = speeds_by_kind(FAST_AND_SLOW, contended=False)
    first = speeds["fast"]
    result = replace(
        make_result(), performance=first, speeds={str(k): found for k, found in speeds.items()}
    )
    found = cluster(lost=True, differences=["torch 2.8 (driver 2.9)"], unfit="no module named ray")
    report = build_report([result], config, facts(cluster=found))
    check(report)
    text = " ".join(" ".join(render(report, None)).split())
    assert "cluster: 2 nodes; shards: a 1, b 0" in text
    assert "2 runs of 1 shard lost on b: its node is gone" in text
    assert "warning: b runs other code: torch 2.8 (driver 2.9)" in text
    assert "warning: b was not used: no module named ray" in text
    assert "several kinds of node timed it, each judged by itself: fast 5 images/s; slow" in text
    page = render_page(report, Evidence(None, lambda stage: None))
    assert "cluster: 2 nodes; shards: a 1, b 0" in page
    check(build_report([result], config, facts()))
    assert build_report([result], config, facts())["cluster"] is None
    assert list(cluster_lines(None)) == []


@pytest.mark.parametrize(("before", "after"), [(None, "one"), ("one", "another")])
def test_speed_on_another_kind_of_node_is_not_compared(
    before: str | None, after: str | None
) -> None:
    machine = {"cpu": "one", "cores": 2, "gpu": None}
    performance = next(iter(speeds_by_kind([outcome(None, 1.0)], contended=False).values()))
    old, new = (
        {"id": "c", "performance": {**performance, "kind": kind}} for kind in (before, after)
    )
    (change,) = speed_changes(old, new, (machine, machine), ({}, {}))
    assert change.how == "another machine: kind of node"


def test_the_fastest_times_are_of_the_kind_that_the_figures_are_of(tmp_path: Path) -> None:
    result = make_result()
    name = result.cell.id
    report = build_report([result], Config(paths=Paths(tmp_path)), facts())
    (tmp_path / "outcomes").mkdir()
    for number, each in enumerate(FAST_AND_SLOW, start=1):
        path = tmp_path / "outcomes" / f"{name}-s00{number}of003.json"
        path.write_text(json.dumps(each.as_dict()))
    evidence = Evidence(tmp_path, lambda stage: None)
    cell = report["cells"][0]
    slow = speeds_by_kind(FAST_AND_SLOW, contended=False)["slow"]
    assert evidence.fastest({**cell, "performance": slow}) == {"batch_latency": 4000.0}
    assert evidence.fastest(cell) == {}  # of one machine
