"""What must be known of a cell's samples before its figures are believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pillsnap.compare.figures.classification import CHANCE
from pillsnap.compare.result import CellResult
from pillsnap.config.settings import Nms

# Images with conflicting labels that a note names.
_NAMED = 3


def remarks(metrics: Mapping[str, Any]) -> Iterator[str]:
    """In a few words each, for the row of a cell; none where it measured nothing."""
    if copies := _copies(metrics):
        yield (
            f"{copies:,} copies: {metrics['distinct_samples']:,} distinct images of "
            f"{metrics['samples']:,}"
        )
    if metrics.get("label_conflicts"):
        yield f"copies that are labelled differently: {metrics['label_conflicts']:,}"
    if metrics.get("images_at_max_detections"):
        yield (
            f"max_detections reached in {metrics['images_at_max_detections']:,} of "
            f"{metrics['samples']:,} images"
        )


def sample_notes(result: CellResult, nms: Nms) -> Iterator[str]:
    """The same in whole sentences, and what a small sample leaves open."""
    stage, metrics = result.cell.stage, result.metrics
    if copies := _copies(metrics):
        yield (
            f"{stage}: {copies:,} of {metrics['samples']:,} samples are copies, files of the same "
            "bytes as another: what the sample certifies counts each image once"
        )
    if metrics.get("label_conflicts"):
        named = "; ".join(" and ".join(c) for c in metrics["label_conflict_samples"][:_NAMED])
        yield (
            f"{stage}: the same image under different labels (two classes, say), of which at most "
            f"one is right: {metrics['label_conflicts']:,}, such as {named}"
        )
    reached, above = (
        metrics.get(key) for key in ("images_at_max_detections", "labels_above_max_detections")
    )
    if reached or above:
        yield (
            f"{stage}: max_detections ({nms.max_detections}) is reached in {reached:,} images, "
            f"whose further boxes neither side keeps; labelled boxes above it: {above:,}"
        )
    by_chance = metrics.get("reference_top1_by_chance")
    if by_chance is not None and by_chance > CHANCE and not result.verdict.failed:
        yield (
            f"{stage}: {metrics['labelled_distinct_samples']:,} labelled images are too few to "
            "tell the reference from guessing: verify more samples"
        )


def _copies(metrics: Mapping[str, Any]) -> int:
    samples: int = metrics.get("samples", 0)
    return samples - int(metrics.get("distinct_samples", samples))
