"""Speed of a cell by kind of node: times of one processor say nothing of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pillsnap.compare.figures import Metrics
from pillsnap.compare.figures.performance import performance_figures
from pillsnap.compare.outcome import Outcome
from pillsnap.compare.verdict import Breach, find_over_budget


def speeds_by_kind(outcomes: Sequence[Outcome], *, contended: bool) -> dict[str | None, Metrics]:
    """Performance of a cell by the kind of node that its shards ran on, None for this machine, in
    the order of the shards.

    Args:
        outcomes: of the cell's shards, in order, at least one.
        contended: processes of this machine shared it.
    """
    size_bytes = outcomes[0].candidate.get("size_bytes")
    hosts = [outcome.host or {"kind": None, "contended": contended} for outcome in outcomes]
    found = {}
    for kind in dict.fromkeys(host["kind"] for host in hosts):
        of_kind = [i for i, host in enumerate(hosts) if host["kind"] == kind]
        timings = [outcomes[i].timing for i in of_kind if outcomes[i].timing]
        shared = any(hosts[i]["contended"] for i in of_kind)
        found[kind] = performance_figures(timings, size_bytes, contended=shared, kind=kind)
    return found


def over_budget(
    speeds: Mapping[str | None, Metrics], budgets: Mapping[str, float]
) -> tuple[Breach, ...]:
    """Every figure above its budget on any kind of node, the worst of them; one that was measured
    on some kinds only is judged on those."""
    worst: dict[str, Breach] = {}
    for performance in speeds.values():
        for breach in find_over_budget(performance, _judged(performance, speeds, budgets)):
            known = worst.get(breach.figure)
            if known is None or breach.value > known.value:
                worst[breach.figure] = breach
    return tuple(worst.values())


def _judged(
    performance: Metrics, speeds: Mapping[Any, Metrics], budgets: Mapping[str, float]
) -> dict[str, float]:
    """The budgets of what was measured here, or nowhere, which breaches."""
    return {
        name: limit
        for name, limit in budgets.items()
        if performance[name] is not None or all(each[name] is None for each in speeds.values())
    }
