"""How fast a cell of lower precision is over float32: the same run's cell of the file that its own
was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pillsnap.compare.result import CellResult


def with_float32_speed(results: Sequence[CellResult]) -> list[CellResult]:
    """The results, with `speedup_over_fp32` in batches where both cells were timed."""
    float32 = {each.cell: each for each in results if each.cell.precision == "fp32"}
    return [_compared(each, float32.get(replace(each.cell, precision="fp32"))) for each in results]


def _compared(result: CellResult, source: CellResult | None) -> CellResult:
    made, mine = result.quantized, result.performance
    if source is None or made is None or mine is None or source.performance is None:
        return result
    rates = [each["images_per_s"] for each in (mine, source.performance)]
    contended = mine["contended"] or source.performance["contended"]
    elsewhere = mine["kind"] != source.performance["kind"]
    same = {each.candidate.get("sha256") for each in source.outcomes} == {made["source_sha256"]}
    if contended or elsewhere or not same or None in rates:
        return result
    found = {"speedup_over_fp32": rates[0] / rates[1], "fp32_compared": "batches"}
    return replace(result, performance={**mine, **found})
