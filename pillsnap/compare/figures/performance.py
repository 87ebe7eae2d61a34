"""Speed and memory of a candidate, from what its shards measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Figures that --perf-budget may bound from above.
BUDGETS = (
    "latency_p50_ms",
    "latency_p95_ms",
    "batch_latency_p50_ms",
    "batch_latency_p95_ms",
    "peak_memory_mib",
    "peak_gpu_memory_mib",
    "model_size_mib",
)


def performance_figures(
    timings: Sequence[Mapping[str, Any]],
    size_bytes: int | None,
    *,
    contended: bool,
    kind: str | None = None,
) -> dict[str, Any]:
    """Figures of a cell by name; null where nothing was measured.

    Args:
        timings: of its shards, see Outcome.timing.
        size_bytes: of the model's file.
        contended: several workers shared the machine, so that the figures only tell a lower bound
            of the speed.
        kind: the processor or GPU of a cluster's node that all of them are of.
    """
    runs = [(images, seconds) for timing in timings for images, seconds in timing["runs"]]
    # The last batch of a shard may be smaller.
    size = max((images for images, _ in runs), default=None)
    batches = [seconds for images, seconds in runs if images == size]
    per_image = math.fsum(batches) / (len(batches) * size) if size else None
    timed = next((t for t in timings if t.get("reference_s")), None)
    reference = None if timed is None else timed["reference_s"]
    speedup = reference / per_image if reference and per_image else None
    alone, float32 = (_first(timings, name) for name in ("alone", "float32_alone"))
    both = alone["seconds"] and float32["seconds"]
    return {
        "contended": contended,
        "kind": kind,
        "batch_size": size,
        "batch_runs": len(batches),
        "images_per_s": _inverse(per_image),
        **_latency("batch_latency", batches),
        "single_runs": len(alone["seconds"]),
        "single_problem": alone.get("problem"),
        **_latency("latency", alone["seconds"]),
        "torch_images_per_s": _inverse(reference),
        "torch_remembered": None if timed is None else timed["reference_remembered"],
        "speedup_over_torch": speedup,
        "speedup_over_fp32": _median(float32) / _median(alone) if both else None,
        "fp32_compared": "alone" if both else None,
        "peak_memory_mib": alone.get("peak_memory_mib"),
        "peak_gpu_memory_mib": alone.get("peak_gpu_memory_mib"),
        "model_size_mib": None if size_bytes is None else round(size_bytes / 2**20, 3),
    }


def _first(timings: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((timing[name] for timing in timings if timing.get(name)), {"seconds": []})


def _median(alone: Mapping[str, Any]) -> float:
    return float(np.median(alone["seconds"]))


def _inverse(seconds: float | None) -> float | None:
    return None if seconds is None else 1 / seconds


def _latency(name: str, seconds: Sequence[float]) -> dict[str, float | None]:
    """Median and 95th percentile in ms."""
    if not seconds:
        return {f"{name}_p50_ms": None, f"{name}_p95_ms": None}
    p50, p95 = (1000 * float(np.quantile(seconds, quantile)) for quantile in (0.5, 0.95))
    return {f"{name}_p50_ms": p50, f"{name}_p95_ms": p95}
