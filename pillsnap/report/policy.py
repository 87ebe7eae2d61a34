"""In words: how a cell's samples were chosen, and what a reader of its figures should know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pillsnap.compare.figures import Metrics
from pillsnap.compare.outcome import Outcome
from pillsnap.compare.result import CellResult
from pillsnap.compare.tasks import task_of
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Compare, Config, Nms
from pillsnap.data.datasets import listed
from pillsnap.data.sampling import BOXED
from pillsnap.engines import find_entry
from pillsnap.engines.precision import is_lower, types_in_words
from pillsnap.export.runtimes import least_runtime
from pillsnap.export.suppression import other_thresholds
from pillsnap.report.remarks import sample_notes

# Figures that list classes, and the keys of their indices by what they are of.
_CLASSES = {
    "worst_classes": {"class": "class_index"},
    "boundary_cases": {
        "reference_class": "reference_class",
        "candidate_class": "candidate_class",
    },
}


def sample_policy(cell: Cell, compare: Compare) -> str:
    if cell.hard:
        edges = ", ".join(f"{edge:g}" for edge in compare.hardness_bins)
        return (
            f"{compare.hard_per_bin} per bin of the reference's top-1 probability ({edges}), of "
            f"{compare.hard_pool} at random, seed {compare.seed}"
        )
    if cell.mode == "full":
        return "the whole validation set"
    if cell.mode == "coverage":
        return (
            f"class-balanced: {compare.per_class_k} per class, at most {compare.max_total}, "
            f"seed {compare.seed}"
        )
    by = "".join(f", stratified by {key}" for key in compare.stratify_by)
    if task_of(cell.stage).scenes:
        by += f", at least {100 * BOXED:.0f} % with labelled boxes where the data have so many"
    return f"{compare.sample_count} at random{by}, seed {compare.seed}"


def notes(
    result: CellResult, outcome: Outcome | None, config: Config, budgets: Mapping[str, float]
) -> Iterator[str]:
    """What the figures do not show by themselves."""
    metrics = result.metrics
    if metrics.get("classes_missing"):
        yield (
            f"{result.cell.stage}: classes asked for {metrics['classes_asked']:,}, in the data "
            f"{metrics['classes_available']:,}, covered {metrics['classes_covered']:,}"
        )
    if result.verdict.reason and not result.verdict.failed:
        yield result.verdict.reason
    if result.verdict.looser:
        yield f"profile {result.verdict.looser} would have held"
    if metrics.get("top1_near_ties"):
        yield (
            f"{metrics['top1_near_ties']} flips are near ties of the reference and do not count "
            "against the tolerance"
        )
    if metrics.get("map_reason"):
        yield f"mAP is null: {metrics['map_reason']}"
    yield from sample_notes(result, config.nms)
    if outcome is not None:
        yield from outcome.reference.get("notes", ())
    yield from _of_data(result)
    if result.unreadable:
        yield f"{len(result.unreadable)} images could not be read: see cells[].unreadable"
    if result.performance is not None and result.performance["contended"] and budgets:
        yield (
            "--perf-budget was not judged: several workers shared the machine (run without -n, on "
            "a cluster with --threads as many as a node has CPUs)"
        )
    if outcome is not None:
        if outcome.candidate.get("foreign"):
            yield (
                f"{result.cell.stage}: the candidate has no metadata of pillsnap, so that its "
                "checkpoint, preprocessing, NMS and class map could not be checked"
            )
        if (why := outcome.candidate.get("unchecked_names")) is not None:
            yield f"{result.cell.stage}: the candidate's classes were not compared by name: {why}"
        yield from _of_runtime(result.cell.stage, outcome.candidate)
    if result.layout is not None:
        yield from _of_layout(result.cell.stage, result.layout, config.nms)
    yield from _of_precision(result)
    providers = outcome.candidate.get("providers") if outcome is not None else None
    cell = result.cell
    may_fall_back = cell.provider == "auto" and "auto" in find_entry(cell.engine).gpu
    if may_fall_back and providers and "CUDAExecutionProvider" not in providers:
        yield f"provider auto fell back to {', '.join(providers)}"


def _of_layout(stage: str, layout: Mapping[str, Any], nms: Nms) -> Iterator[str]:
    """What a file answers beyond what is compared, and otherwise than config says."""
    if layout["others"]:
        yield (
            f"{stage}: of the file's outputs {', '.join(layout['outputs'])} is verified, and not "
            f"{', '.join(layout['others'])}"
        )
    if layout["compared"] != "boxes":
        return
    if others := other_thresholds(Nms(**layout["nms"]), nms):
        yield (
            f"{stage}: both sides are held to the file's own NMS, which keeps other boxes than "
            f"export.postprocess.nms: {others}; what runs the file gives those"
        )


def _of_runtime(stage: str, candidate: Mapping[str, Any]) -> Iterator[str]:
    """Whether a file asks for a newer ONNX Runtime than its operators need."""
    opset, ir_version = candidate.get("opset"), candidate.get("ir_version")
    enough = least_runtime(opset or 0, 0)
    if ir_version is not None and least_runtime(opset or 0, ir_version) != enough:
        yield (
            f"{stage}: IR version {ir_version} of the file needs ONNX Runtime "
            f"{candidate['min_onnxruntime'] or 'later than any known here'}, where opset {opset} "
            f"needs {enough}: export it with pillsnap, or lower its ir_version with onnx"
        )


def _of_precision(result: CellResult) -> Iterator[str]:
    """What was judged as float32 and does not compute in it, and what one image alone cannot do."""
    cell = result.cell
    proven = None if result.execution is None else result.execution["precision"]
    if cell.precision == "fp32" and proven is not None and is_lower(proven):
        # What to try stands with a breach.
        hint = "" if result.verdict.breaches else " (--precision judges it as what it is)"
        yield (
            f"{cell.stage}: the candidate is not in float32 and was judged as if it were: "
            f"{proven['compute_nodes']} compute nodes, {types_in_words(proven)}{hint}"
        )
    problem = result.performance and result.performance["single_problem"]
    if problem:
        yield f"{cell.stage}: one image alone could not be timed: {problem}"


def with_class_names(result: CellResult) -> Metrics:
    """The figures of a cell; where they speak of classes by index, with the names."""
    names = result.data.class_names if result.data is not None else {}
    found = dict(result.metrics)
    for figure, keys in _CLASSES.items():
        if figure in found:
            found[figure] = [
                row | {f"{key}_name": names.get(row[index]) for key, index in keys.items()}
                for row in found[figure]
            ]
    return found


def count_data(result: CellResult) -> dict[str, Any] | None:
    """How many validation images there are, and what of them is taken in another way."""
    data = result.data
    if data is None:
        return None
    return {
        "images": len(data.samples),
        "left_out": dict(data.left_out.most_common()),
        "without_label_file": data.unlabelled,
        "polygons": data.polygons,
        "labels_twice": data.copies,
    }


def _of_data(result: CellResult) -> Iterator[str]:
    """How the validation data were taken, where they could be taken otherwise."""
    stage, data = result.cell.stage, result.data
    yield from dict.fromkeys(note for outcome in result.outcomes for note in outcome.notes)
    if data is None:
        return
    if data.left_out:
        kinds = listed(data.left_out)
        yield f"{stage}: left out, since pillsnap reads no such images: {kinds}"
    if data.unlabelled:
        yield (
            "scenes without a label file, which count as scenes without pills: "
            f"{data.unlabelled:,} of {len(data.samples):,}"
        )
    if data.copies:
        yield f"labels that stand twice in their image and count once: {data.copies:,}"
    if data.without_code is not None:
        yield data.without_code
    if data.numbered is not None:
        yield data.numbered
    if data.polygons:
        yield f"polygons that became the boxes around them: {data.polygons:,}"
