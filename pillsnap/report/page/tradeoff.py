"""What the page shows of which layers to keep in float."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pillsnap.report.page.charts import Chart, trade_curve
from pillsnap.report.sensitive import conclusions, costliest, in_words, output_error

# What each list is for.
_TOOLS = {
    "nodes": "Names of ONNX nodes, as export.quantize takes them",
    "torch": "Modules of torch",
    "onnxruntime": "ONNX Runtime: quantize_static, or float16.convert_float_to_float16",
    "nncf": "NNCF: nncf.quantize",
    "trtexec": "TensorRT: trtexec (by its syntax; nothing has run it)",
}


@dataclass(frozen=True)
class Tradeoff:
    """A cell's sensitivity.

    Attributes:
        texts: what it comes to.
        layers: name, output error, lowered alone, kept alone, and whether it is to be kept.
        calibrations: method, its loss in the file of method static, with what is to be kept, and
            seconds.
        charts: of the trade.
        lists: what it is for, and the text.
        images: that the layers were measured on.
    """

    texts: list[str]
    layers: list[tuple[str, str, str, str, bool]]
    calibrations: list[tuple[str, str, str, float]]
    charts: list[Chart]
    lists: list[tuple[str, str]]
    images: int


def view_tradeoff(cell: Mapping[str, Any]) -> Tradeoff | None:
    """None where --sensitivity did not ask for it."""
    found = cell["sensitivity"]
    if found is None:
        return None
    kept = set(found["kept"] or ())
    return Tradeoff(
        list(conclusions(cell)),
        [
            (
                each["name"],
                output_error(each),
                in_words(each["lowered"]),
                in_words(each["kept"]),
                each["name"] in kept,
            )
            for each in costliest(found)
        ],
        [
            (each["method"], in_words(each["static"]), in_words(each["kept"]), each["seconds"])
            for each in found["calibrations"]
        ],
        _charts(found),
        [(_TOOLS[name], text) for name, text in (found["lists"] or {}).items() if text],
        found["images"],
    )


def _charts(found: Mapping[str, Any]) -> list[Chart]:
    names = [f"{each['layers']} in float" for each in found["trade"]]
    names[-1:] = ["float32"] if names else []
    shares = [
        math.inf if each["loss"]["share"] is None else each["loss"]["share"]
        for each in found["trade"]
    ]
    charts = []
    for title, x, key, unit in (
        ("Loss over size", "size of the file, MB", "size_bytes", 1e6),
        ("Loss over time", "one image, ms", "latency_ms", 1.0),
    ):
        places = [each[key] / unit for each in found["trade"]]
        points = list(zip(places, shares, names, strict=True))
        chart = trade_curve(title, x, points, found["margin"])
        charts += [chart] if chart is not None else []
    return charts
