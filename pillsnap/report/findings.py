"""What the diagnosis of a cell found, in words."""

from __future__ import annotations

import math
from typing import Any

from pillsnap.report.lines import one_line, wrap


def diagnosis_lines(cell: dict[str, Any]) -> list[str]:
    return [line for text in diagnosis_texts(cell) for line in wrap(text, indent=2)]


def diagnosis_texts(cell: dict[str, Any]) -> list[str]:
    """The first layer that differs, the stages' shares, the cause, the repro, what failed."""
    found = cell["diagnosis"]
    if found is None:
        return []
    texts = []
    # Where nothing differs, nothing is tried, and shares are those of rounding.
    alike = found["causes"] is not None and not found["causes"]["tried"]
    if found["layers"] is not None:
        texts.append(_layers(found["layers"]))
    for part, of in (("budget", "by stage"), ("pipeline", "of both stages together")):
        shared = None if alike and part == "budget" else found[part]
        if shared is not None and shared["percent"] is not None:
            shares = ", ".join(f"{k} {v:.0f} %" for k, v in shared["percent"].items())
            total = f"{shared['total']:.2g} {shared['unit']}"
            texts.append(f"difference {of} ({total}): {shares}")
    if alike:
        texts.append(f"finding: {found['causes']['in_words']}")
        if cell["verdict"] == "breach":
            texts[-1] += "; what breached depends on the batch, or lies behind the network "
            texts[-1] += "(thresholds, NMS, class map)"
    elif found["causes"] is not None:
        texts.append(f"cause: {found['causes']['in_words']}")
        if found["causes"]["hint"] is not None:
            texts.append(f"to avoid it: {found['causes']['hint']}")
    if found["repro"] is not None:
        texts.append(f"repro: python {found['repro']}")
    return texts + [f"not diagnosed: {one_line(problem)}" for problem in found["problems"]]


def _layers(found: dict[str, Any]) -> str:
    """Such as "first layer that differs: Conv /fc/Gemm (fc), relative error 0.05"."""
    if not found["places"]:
        return f"no layer differs by itself: {found['compared']} compared with {found['method']}"
    place = found["places"][0]
    error = math.inf if place["relative_error"] is None else place["relative_error"]
    text = f"first layer that differs: {place['op_type']} {place['node']}"
    text += f" ({place['module']})" if place["module"] else ""
    text += f", relative error {error:.2g}"
    if place["bracket_size"] > 1:
        text += f", or one of {place['bracket_size']} nodes before it"
    others = len(found["places"]) - 1
    return text + (f"; {others} more differ by themselves" if others else "")
