"""What an engine proves of the types that a candidate computes in, under `precision` of its info:
`compute_nodes`, `compute_nodes_by_type` and `weight_only_nodes`, those whose weights alone are
quantised. One that proves nothing leaves it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def types_in_words(found: Mapping[str, Any]) -> str:
    """Such as "65 in int8, 25 in fp32", the most first; "in fp32" where all are of one type."""
    counts = sorted(found["compute_nodes_by_type"].items(), key=lambda item: -item[1])
    if len(counts) == 1:
        return f"in {counts[0][0]}"
    return ", ".join(f"{count} in {name}" for name, count in counts)


def lower_nodes(found: Mapping[str, Any] | None) -> int:
    """How many compute nodes are proven to be in fewer bits than float32, or have such weights."""
    if found is None:
        return 0
    whole = sum(found["compute_nodes_by_type"].get(name, 0) for name in ("fp32", "double"))
    return int(found["compute_nodes"] - whole + found["weight_only_nodes"])
