"""Speed, memory and size of a cell beside those of an earlier run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pillsnap.report.against.changes import Change, outcome

# A time is worse where its median, divided by this, lies above the other's 95th percentile.
SPARE = 1.25
# And, where single times are there, its fastest tenth above so many times the other's median: what
# disturbs a machine leaves some runs alone.
UNDISTURBED = 1.1
# A machine may be slow for the half second that one kind of time is taken in: the other kind, of
# one image or of batches, is to be slower by UNDISTURBED as well, or this one by so much.
BY_ITSELF = 2.0
# Fewer times than these say nothing of their spread.
FEWEST = 5
# By how much memory and files may grow without a word, in parts and in MiB.
GROWTH = {
    "peak_memory_mib": (1.1, 8.0),
    "peak_gpu_memory_mib": (1.1, 8.0),
    "model_size_mib": (1.01, 0.0),
}

# Median and 95th percentile of a time, how many there are, and what must be equal.
_TIMES = (("latency", "single_runs", None), ("batch_latency", "batch_runs", "batch_size"))

# Processes for each CPU, before a run, above which times are not the model's alone. Own tests that
# are just over leave about 1.
BUSY = 1.5

# Of what is measured on another of these, nothing is the model's.
_MACHINE = ("cpu", "cores", "gpu")


def speed_changes(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    machines: tuple[Mapping[str, Any], Mapping[str, Any]],
    fastest: tuple[Mapping[str, float], Mapping[str, float]],
) -> Iterator[Change]:
    """Every figure of speed, memory and size that a cell has; what one alone has is not compared.

    Args:
        machines: `environment` of the old and of the new report.
        fastest: Evidence.fastest of both.
    """
    cell, before, after = new["id"], old["performance"], new["performance"]
    if before is None or after is None:
        if before is not after:
            yield _of_one(cell, "speed, memory, size", before, after)
        return
    other = [name for name in _MACHINE if machines[0].get(name) != machines[1].get(name)]
    if before.get("kind") != after.get("kind"):  # older reports are of one machine
        other.append("kind of node")
    # Neither memory, which is of a process of its own, nor files are a matter of load.
    elsewhere = why = f"another machine: {', '.join(other)}" if other else ""
    if not why and (before["contended"] or after["contended"]):
        why = "workers shared the machine"
    for when, machine in zip(("old", "new"), machines, strict=True):
        # Reports of earlier versions do not say.
        if not why and (machine.get("load") or 0.0) > BUSY:
            why = (
                f"the machine was busy before the {when} run: {machine['load']:.2g} processes a CPU"
            )
    for name, runs, equal in _TIMES:
        median, slow = f"{name}_p50_ms", f"{name}_p95_ms"
        values = before[median], after[median]
        if None in values:
            if values != (None, None):
                yield _of_one(cell, median, *values)
            continue
        reason = why
        if not reason and equal is not None and before[equal] != after[equal]:
            reason = f"{equal} {before[equal]} and {after[equal]}"
        if not reason and min(before[runs], after[runs]) < FEWEST:
            reason = f"fewer than {FEWEST} times were taken"
        if reason:
            yield Change(cell, median, *values, "not compared", reason)
            continue
        worse, better = (
            one[median] > SPARE * other[slow]
            and least.get(name, math.inf) > UNDISTURBED * other[median]
            and (one[median] > BY_ITSELF * other[slow] or _slower_too(one, other, name))
            for one, other, least in ((after, before, fastest[1]), (before, after, fastest[0]))
        )
        how = f"must be {SPARE:g} times the 95th percentile of the other"
        yield Change(cell, median, *values, outcome(worse, better), how)
    for name, (part, spare) in GROWTH.items():
        values = before[name], after[name]
        if None in values:
            if values != (None, None):
                yield _of_one(cell, name, *values)
            continue
        if elsewhere and name != "model_size_mib":
            yield Change(cell, name, *values, "not compared", elsewhere)
            continue
        worse = after[name] > part * before[name] + spare
        better = before[name] > part * after[name] + spare
        yield Change(cell, name, *values, outcome(worse, better), "")


def _slower_too(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    """Whether a cell's other kind of time is longer as well, or was not taken on both sides."""
    (median,) = (f"{each}_p50_ms" for each, *_ in _TIMES if each != name)
    values = one[median], other[median]
    if None in values or one["batch_size"] != other["batch_size"]:
        return True
    return bool(values[0] > UNDISTURBED * values[1])


def _of_one(cell: str, figure: str, before: Any, after: Any) -> Change:
    """What one of the runs alone has; `before` or `after` is None."""
    old, new = (value if isinstance(value, float) else None for value in (before, after))
    which = "new" if before is None else "old"
    return Change(cell, figure, old, new, "not compared", f"in the {which} run alone")
