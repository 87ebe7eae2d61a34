"""What an engine proves of the types that a candidate computes in, under `precision` of its info:
`compute_nodes`, `compute_nodes_by_type` and `weight_only_nodes`, those whose weights alone have
fewer bits, quantised or in half precision. One that proves nothing leaves it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Types in which nothing is lost against float32.
_WHOLE = {"fp32", "double"}


def types_in_words(found: Mapping[str, Any]) -> str:
    """Such as "65 in int8, 25 in fp32 (4 with weights alone in fewer bits)", the most first."""
    by_type, weights = found["compute_nodes_by_type"], found["weight_only_nodes"]
    counts = sorted(by_type.items(), key=lambda item: -item[1])
    text = ", ".join(f"{count} in {name}" for name, count in counts)
    if len(counts) == 1:
        text = f"in {counts[0][0]}"
    return text + (f" ({weights} with weights alone in fewer bits)" if weights else "")


def is_lower(found: Mapping[str, Any]) -> bool:
    """Whether a candidate computes in fewer bits than float32, or with such weights."""
    return bool(found["compute_nodes_by_type"].keys() - _WHOLE or found["weight_only_nodes"])
