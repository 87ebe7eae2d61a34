"""The nodes of a cluster in the terminal's section."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def cluster_lines(cluster: dict[str, Any] | None) -> Iterator[str]:
    """What ran where, what was run again, how nodes differ, how fast kinds of them are; nothing of
    a run on one machine."""
    if cluster is None:
        return
    nodes = cluster["nodes"]
    shares = ", ".join(f"{node['name']} {node['shards']:,}" for node in nodes)
    yield f"cluster: {_count(len(nodes), 'node')}; shards: {shares}"
    lost: dict[tuple[str, str], list[str]] = {}
    for loss in cluster["losses"]:
        lost.setdefault((loss["node"], loss["reason"]), []).append(loss["shard"])
    for (node, reason), shards in lost.items():
        runs = f"{_count(len(shards), 'run')} of {_count(len({*shards}), 'shard')}"
        yield f"cluster: {runs} lost on {node}: {reason}"
    for node in nodes:
        if node["differences"]:
            yield f"warning: {node['name']} runs other code: {', '.join(node['differences'])}"
        if node["unfit"] is not None:
            yield f"warning: {node['name']} was not used: {node['unfit']}"
    for cell, speeds in cluster["speeds"].items():
        rates = (
            f"{kind} {found['images_per_s']:.3g} images/s"
            for kind, found in speeds.items()
            if found["images_per_s"] is not None
        )
        yield f"{cell}: several kinds of node timed it, each judged by itself: {'; '.join(rates)}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number > 1 else ''}"
