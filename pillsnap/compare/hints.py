"""Where to look first after a breach, by the pattern of the figures. Pure, like the gate."""

from __future__ import annotations

from typing import Any

from pillsnap.compare.drift import noise_of
from pillsnap.compare.figures import Metrics
from pillsnap.compare.limits import exceeds
from pillsnap.compare.verdict import BATCH, BUDGET, CERTIFIED, GRAPH, Breach
from pillsnap.config.figures import FIGURES

# So many classes that always flip, or more, are no fault of single classes.
ALWAYS = 5


def likely_causes(breaches: tuple[Breach, ...], metrics: Metrics) -> list[str]:
    """Where to look first, by the pattern of the figures. A hint, not a diagnosis."""
    changed = [breach for breach in breaches if breach.figure == GRAPH]
    if changed:
        rest = likely_causes(tuple(each for each in breaches if each not in changed), metrics)
        cause = (
            f"the file was changed after it was exported: {changed[0].where}; where a tool of "
            "yours is to do so, let it drop the metadata by which it passes for pillsnap's own"
        )
        return [cause, *(rest if len(breaches) > 1 else [])]
    names = {breach.figure for breach in breaches}
    if names and all(breach.where == BUDGET for breach in breaches):
        return ["speed or memory on this machine: the figures of accuracy are inside their profile"]
    if names and all(breach.where == BATCH for breach in breaches):
        return [
            "an operator that computes over all images of a batch: activations quantised by their "
            "range in it, normalisation by its statistics, a Reshape that takes in N"
        ]
    if names and all(name.endswith(CERTIFIED) for name in names):
        return ["too few samples for --gate-strict: the figures are inside their tolerances"]
    if names == {"classes_missing"}:
        return ["the validation data have too few classes for export.compare.min_classes"]
    if "non_finite" in names:
        return ["conversion: overflow, most often float16 activations above 65504"]
    flips: Any = metrics.get("top1_mismatch_rate")
    causes = []
    if flips is not None and flips > 0.2:
        causes.append(
            "normalisation: mean/std, RGB/BGR, resize or class order differ between the two sides"
        )
    always = [
        str(row["class_index"]) + (f" ({row['class_name']})" if row.get("class_name") else "")
        for row in metrics.get("worst_classes", ())
        if row["rate"] == 1 and row["samples"] > 1
    ]
    if always and len(always) < ALWAYS:
        causes.append(
            f"class order or class rows: class {', '.join(always)} flips on all of its samples"
        )
    per_stride = metrics.get("per_stride", ())
    bad = [str(row["stride"]) for row in per_stride if _stride_broke(row)]
    if bad and len(bad) < len(per_stride):
        causes.append(f"operator: only the heads of stride {', '.join(bad)} drifted")
    elif bad:
        causes.append("operator or weights before the heads: every stride drifted")
    elif per_stride and not metrics["class_flips"]:
        causes.append("post-processing: raw outputs agree, thresholds or NMS may not")
    if not causes:
        causes.append(
            "conversion: weights or arithmetic of lower precision (FP16, INT8), another "
            "checkpoint, or an operator that the runtime computes differently"
        )
    return causes


def _stride_broke(row: Metrics) -> bool:
    return any(
        exceeds(row.get(figure.name) or 0, noise_of(figure, row))
        for figure in FIGURES
        if figure.per_stride
    )
