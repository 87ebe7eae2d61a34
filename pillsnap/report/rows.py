"""A cell in the terminal's section: its verdict, its figures, how and where it ran."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pillsnap.compare.certify import Certified, in_words
from pillsnap.compare.drift import drifted, limit_of
from pillsnap.compare.tasks import task_of
from pillsnap.config.figures import Figure
from pillsnap.config.tolerances import Tolerances
from pillsnap.core.printable import printable
from pillsnap.engines.precision import types_in_words
from pillsnap.report.findings import diagnosis_lines
from pillsnap.report.lines import WIDTH, wrap
from pillsnap.report.remarks import remarks
from pillsnap.report.sensitive import sensitivity_lines

# From here on a file of lower precision is slower than float32; nearer to 1 is noise.
SLOWER = 0.95

# Differences of a graph that a row names; the report has more.
_NAMED = 5


def cell_row(cell: dict[str, Any]) -> list[str]:
    name = printable(cell["id"])
    samples = f"{cell['samples']:>{max(0, 51 - len(name))}}"
    facts = f"{samples} {cell['seconds']:>7.1f} s  {cell['verdict']}"
    heads = [f"{name} {facts}"]
    if len(heads[0]) > WIDTH:
        heads = [name, f"{facts:>{WIDTH}}"]
    lines = [*heads, *(line for text in _facts(cell) for line in wrap(text, indent=2))]
    if cell["verdict"] not in ("breach", "inconclusive"):  # theirs stand with the verdict
        lines += diagnosis_lines(cell)
    return lines + sensitivity_lines(cell)


def _facts(cell: dict[str, Any]) -> Iterator[str]:
    """What was found of a cell, a text each."""
    metrics = cell["metrics"]
    yield figures_in_words(cell)
    yield from circumstances(cell)
    if cell["performance"] is not None and cell["performance"]["images_per_s"] is not None:
        yield _speed(cell["performance"])
    if metrics.get("precision_bits") is not None:
        yield f"precision kept: {metrics['precision_bits']:.1f} bits of torch in float64"
    for figure, found in cell["certified"].items():
        yield in_words(figure, Certified(**found))


def circumstances(cell: dict[str, Any]) -> Iterator[str]:
    """How a cell's figures came about, a text each: samples, placement, batches, file."""
    metrics = cell["metrics"]
    yield from remarks(metrics)
    if cell["accuracy"] is not None:
        yield _accuracy(cell)
    if cell["execution"] is not None:
        yield _placed(**cell["execution"])
    if cell["layout"] is not None:
        yield _read(cell["layout"], metrics)
    if cell["batching"] is not None and cell["batching"]["drift"] is not None:
        yield _batched(cell["batching"], metrics, _shown(cell))
    if cell["graph"] is not None:
        yield _graph(cell["graph"])
    if cell["quantized"] is not None:
        yield _precision(cell["quantized"])


def figures_in_words(cell: dict[str, Any]) -> str:
    """Such as "mse 2.4e-15/1e-06  flips 0/0.001": each figure against its tolerance."""
    metrics, tolerances = cell["metrics"], Tolerances(**cell["tolerances"])
    return "  ".join(
        _against(figure, metrics[figure.name], limit_of(figure, tolerances, metrics))
        for figure in _shown(cell)
        if metrics.get(figure.name) is not None
    )


def _shown(cell: dict[str, Any]) -> list[Figure]:
    return [figure for figure in task_of(cell["stage"]).figures if figure.label]


def _against(figure: Figure, value: float, limit: float | None) -> str:
    """Such as "p99 4e-14/5e-06", and of what may fall so far alone, "mAP +0.025/-0.02"."""
    sign = "+" if figure.loss and value else ""
    text = f"{figure.label} {value:{sign}.2g}"
    return text if limit is None else f"{text}/{'-' if figure.loss else ''}{limit:.2g}"


def _accuracy(cell: dict[str, Any]) -> str:
    """Such as "reference: top-1 95.8 % of 24 (training 97 %)"; "" without labels."""
    found = cell["accuracy"]
    if found["found"] is None:
        return ""
    text = f"reference: {task_of(cell['stage']).accuracy.in_words(cell['metrics'])}"
    if found["expected"] is not None:
        text += f" ({found['source']} {100 * found['expected']:.3g} %"
        text += f", not judged: {found['unjudged']})" if found["unjudged"] else ")"
    return text


def _placed(placement: dict[str, Any], precision: dict[str, Any] | None, **_: Any) -> str:
    """Such as "CUDA: 88 of 88 compute nodes, 65 in int8, 23 in fp32; elsewhere: 3 Shape"."""
    name = placement["provider"].removesuffix("ExecutionProvider")
    on, total = placement["compute_nodes_on_provider"], placement["compute_nodes"]
    text = f"{name}: {on} of {total} compute nodes"
    if precision is not None and precision["compute_nodes"]:
        text += f", {types_in_words(precision)}"
    others = [f"{count} {op}" for op, count in placement["other_ops_elsewhere"].items()]
    return f"{text}; elsewhere: {', '.join(others)}" if others else text


def _read(found: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Such as "layout nms (output0): compared after NMS, conf 0.25, IoU 0.7, at most 300; raw
    outputs are not to be had, and no box is of stride 8"."""
    text = f"layout {found['name']} ({', '.join(found['outputs'])})"
    if found["compared"] == "probabilities":
        text += ": compared by probabilities"
    elif found["compared"] == "one-to-one":
        text += f": compared by the one-to-one head, conf {found['nms']['conf_threshold']:.3g}"
        text += f", at most {found['nms']['max_detections']}; raw outputs are of these alone"
    elif found["nms"] is not None:
        inside = found["nms"]
        text += f": compared after NMS, conf {inside['conf_threshold']:.3g}, IoU "
        text += f"{inside['iou_threshold']:.3g}, at most {inside['max_detections']}; raw outputs "
        text += "are not to be had"
    unseen = [
        row
        for row in metrics.get("per_stride", ())
        if not (row["reference_boxes"] or row["raw_box_err_px"])
    ]
    if found["nms"] is not None and unseen:
        text += f", and no box is of stride {', '.join(str(row['stride']) for row in unseen)}"
    if found["batch_size"] is not None:
        size = found["batch_size"]
        text += "; one image at a time" if size == 1 else f"; batches filled up to {size}"
    return text


def _batched(found: dict[str, Any], metrics: dict[str, Any], shown: list[Figure]) -> str:
    """Such as "an image's answer depends on the batch: prob err 0.025 on 4 in batches of 1, 3 and
    16"; "" where batches differ by numeric noise alone."""
    drift = {k: math.inf if value is None else value for k, value in found["drift"].items()}
    if not drifted(drift, metrics):
        return ""
    sizes = [str(size) for size in sorted(found["batch_sizes"])]
    differ = "  ".join(f"{f.label} {drift[f.name]:.2g}" for f in shown if f.name in drift)
    images = f"{found['images']} images in batches of {', '.join(sizes[:-1])} and {sizes[-1]}"
    return f"an image's answer depends on the batch it is in: {differ} ({images})"


def _speed(found: dict[str, Any]) -> str:
    """Such as "12.3 images/s in batches of 16, 2.1 x torch; alone 85 ms, p95 91, 180 MiB; model
    12.3 MiB"."""
    rate = found["images_per_s"]
    text = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
    text += f" images/s in batches of {found['batch_size']}"
    if found["speedup_over_torch"] is not None:
        text += f", {found['speedup_over_torch']:.2g} x torch"
        text += " of an earlier run" if found["torch_remembered"] else ""
    if found["speedup_over_fp32"] is not None:
        text += f", {found['speedup_over_fp32']:.2g} x float32"
        text += " alone" if found["fp32_compared"] == "alone" else ""
        text += " (slower than float32)" if found["speedup_over_fp32"] < SLOWER else ""
    if found["single_problem"] is not None:
        text += "; one image alone could not be timed"
    if found["latency_p50_ms"] is not None:
        text += f"; alone {found['latency_p50_ms']:.3g} ms, p95 {found['latency_p95_ms']:.3g}"
    for key, what in (("peak_memory_mib", ""), ("peak_gpu_memory_mib", " of the GPU")):
        if found[key] is not None:
            text += f", {found[key]:.0f} MiB{what}"
    if found["model_size_mib"] is not None:
        text += f"; model {found['model_size_mib']:.3g} MiB"
    return text + ("; contended by workers" if found["contended"] else "")


def _graph(found: dict[str, Any]) -> str:
    """Such as "graph: identical to a fresh export (torchscript, opset 17)", or of one that is not
    "graph: 2 differences from …", and the first of them."""
    if found["reason"] is not None:
        return f"graph not compared: {found['reason']}"
    fresh, count = found["compared_with"], found["count"]
    by = "; ".join([f"{fresh['exporter']}, opset {fresh['opset']}", *found["made_otherwise"]])
    if found["identical"]:
        return f"graph: identical to a fresh export ({by})"
    first = [f"{each['node']} {each['text']}".strip() for each in found["differences"][:_NAMED]]
    text = f"graph: {count:,} difference{'s' * (count > 1)} from a fresh export ({by}): "
    return text + "; ".join(first) + ("; …" if count > len(first) else "")


def _precision(made: dict[str, Any]) -> str:
    """Such as "int8 static: 65 nodes in int8, 25 in float32, 4.2 MB, calibrated on 100 images"."""
    name = " ".join(part for part in (made["precision"], made["method"]) if part)
    text = f"{name}: {made['nodes_low']} nodes in {made['precision']}, {made['nodes_float']} in "
    text += f"float32, {made['size_bytes'] / 1e6:.1f} MB"
    if made["calibration_images"]:
        text += f", calibrated on {made['calibration_images']} images"
    if made["freed"]:
        text += f"; left float to hold: {', '.join(made['freed'])}"
    return text
