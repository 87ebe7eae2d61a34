"""The terminal's section in 80 columns: breaches first and in words, then a row per cell."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from pillsnap.compare.certify import Certified, in_words
from pillsnap.core.printable import printable
from pillsnap.tasks import task_of

WIDTH = 80


def render(report: dict[str, Any], path: str | None, problem: str | None = None) -> list[str]:
    """Lines of the section for a report.

    Args:
        path: where the report lies; None if it could not be written.
        problem: why it could not.
    """
    gate = report["gate"]
    lines = []
    for verdict in ("breach", "inconclusive"):
        for cell in report["cells"]:
            if cell["verdict"] == verdict:
                lines += _wrap(f"{verdict.upper()} {cell['id']}: {_one_line(cell['reason'])}")
                lines += explain(cell)
                lines += _diagnosis(cell["diagnosis"])
    for shard, reason in gate["skipped"].items():
        lines += _wrap(f"SKIPPED {shard}: {_one_line(reason)}")
    for cell_id in gate["unmeasured"]:
        lines += _wrap(f"NOT MEASURED {cell_id}: it was asked for (--stage names what is)")
    for shard in gate["missing"]:
        lines += _wrap(f"MISSING {shard}: its worker never reported")
    for cell in report["cells"]:
        lines += _row(cell)
    stages = [stage for stage in report["stages"].values() if stage is not None]
    for note in dict.fromkeys(note for stage in stages for note in stage["compare"]["notes"]):
        lines += _wrap(f"note: {note}")
    lines.append(_verdict(gate))
    if problem is not None:
        lines += _wrap(f"report not written: {_one_line(problem)}")
    if path is not None:
        lines.append(printable(f"report: {path}"))
    return lines


def explain(cell: dict[str, Any]) -> list[str]:
    """What to go on from after a breach: the tolerance it takes, where to look, the samples."""
    if cell["verdict"] != "breach" or not cell["breaches"]:
        return []
    needed = ", ".join(
        # A number that is not finite is null in the report.
        dict.fromkeys(
            f"{breach['figure']} {math.inf if breach['value'] is None else breach['value']:.3g}"
            for breach in cell["breaches"]
        )
    )
    held = cell["looser_profile"]
    looser = f"profile {held} would have held" if held else "no looser profile would have held"
    return [
        *_wrap(f"held to profile {cell['profile']}; {looser}; it would take {needed}", indent=2),
        *_wrap("likely: " + "; ".join(cell["likely_causes"]), indent=2),
        *_wrap("worst samples: " + ", ".join(cell["worst_samples"][:3]), indent=2),
    ]


def _row(cell: dict[str, Any]) -> list[str]:
    samples = f"{cell['samples']:>{max(0, 51 - len(cell['id']))}}"
    facts = f"{samples} {cell['seconds']:>7.1f} s  {cell['verdict']}"
    heads = [f"{cell['id']} {facts}"]
    if len(heads[0]) > WIDTH:
        heads = [cell["id"], f"{facts:>{WIDTH}}"]
    shown = [figure for figure in task_of(cell["stage"]).figures if figure.label]
    figures = []
    for figure in shown:
        value = cell["metrics"].get(figure.name)
        limit = cell["tolerances"].get(figure.limited_by)
        if value is not None:
            figures.append(
                f"{figure.label} {value:.2g}" + ("" if limit is None else f"/{limit:.2g}")
            )
    lines = [*heads, *_wrap("  ".join(figures), indent=2)]
    if cell["accuracy"] is not None:
        lines += _wrap(_accuracy(cell), indent=2)
    if cell["execution"] is not None:
        lines += _wrap(_placed(cell["execution"]["placement"]), indent=2)
    if cell["quantized"] is not None:
        lines += _wrap(_precision(cell["quantized"]), indent=2)
    if cell["performance"] is not None and cell["performance"]["images_per_s"] is not None:
        lines += _wrap(_speed(cell["performance"]), indent=2)
    bits = cell["metrics"].get("precision_bits")
    if bits is not None:
        lines += _wrap(f"precision kept: {bits:.1f} bits of torch in float64", indent=2)
    for figure, found in cell["certified"].items():
        lines += _wrap(in_words(figure, Certified(**found)), indent=2)
    if cell["verdict"] not in ("breach", "inconclusive"):  # theirs stand with the verdict
        lines += _diagnosis(cell["diagnosis"])
    return lines


def _diagnosis(found: dict[str, Any] | None) -> list[str]:
    """The first layer that differs, the stages' shares, the cause, the repro, what failed."""
    if found is None:
        return []
    texts = []
    if found["layers"] is not None:
        texts.append(_layers(found["layers"]))
    for part, of in (("budget", "by stage"), ("pipeline", "of both stages together")):
        shared = found[part]
        if shared is not None and shared["percent"] is not None:
            shares = ", ".join(f"{k} {v:.0f} %" for k, v in shared["percent"].items())
            texts.append(f"difference {of} ({shared['total']:.2g}): {shares}")
    if found["causes"] is not None:
        texts.append(f"cause: {found['causes']['in_words']}")
    if found["repro"] is not None:
        texts.append(f"repro: python {found['repro']}")
    texts += [f"not diagnosed: {_one_line(problem)}" for problem in found["problems"]]
    return [line for text in texts for line in _wrap(text, indent=2)]


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


def _placed(placement: dict[str, Any]) -> str:
    """Such as "CUDA: 88 of 88 compute nodes; elsewhere: 3 Shape"."""
    name = placement["provider"].removesuffix("ExecutionProvider")
    on, total = placement["compute_nodes_on_provider"], placement["compute_nodes"]
    text = f"{name}: {on} of {total} compute nodes"
    others = [f"{count} {op}" for op, count in placement["other_ops_elsewhere"].items()]
    return f"{text}; elsewhere: {', '.join(others)}" if others else text


def _speed(found: dict[str, Any]) -> str:
    """Such as "12.3 images/s in batches of 16, 2.1 x torch; alone 85 ms, p95 91, 180 MiB; model
    12.3 MiB"."""
    rate = found["images_per_s"]
    text = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
    text += f" images/s in batches of {found['batch_size']}"
    if found["speedup_over_torch"] is not None:
        text += f", {found['speedup_over_torch']:.2g} x torch"
        text += " of an earlier run" if found["torch_remembered"] else ""
    if found["latency_p50_ms"] is not None:
        text += f"; alone {found['latency_p50_ms']:.3g} ms, p95 {found['latency_p95_ms']:.3g}"
    for key, what in (("peak_memory_mib", ""), ("peak_gpu_memory_mib", " of the GPU")):
        if found[key] is not None:
            text += f", {found[key]:.0f} MiB{what}"
    if found["model_size_mib"] is not None:
        text += f"; model {found['model_size_mib']:.3g} MiB"
    return text + ("; contended by workers" if found["contended"] else "")


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


def _verdict(gate: dict[str, Any]) -> str:
    state = "complete" if gate["complete"] else "INCOMPLETE"
    return f"gate: {gate['verdict'] or 'nothing measured'}, {state}, exit code {gate['exit_code']}"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _wrap(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_on_hyphens=False,
    )
