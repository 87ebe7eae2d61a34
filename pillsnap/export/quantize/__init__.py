"""ONNX files in float32 to files in float16 and INT8, and what must stay float in them."""

from __future__ import annotations

from pillsnap.export.quantize.calibration import (
    Calibration,
    choose_calibration,
    choose_images,
    measure_ranges,
)
from pillsnap.export.quantize.convert import Criterion
from pillsnap.export.quantize.fp16 import to_fp16
from pillsnap.export.quantize.graph import decode_nodes, head_nodes
from pillsnap.export.quantize.int8 import STATIC_OPS, quantize_dynamic, quantize_static
from pillsnap.export.quantize.publish import quantize_once
from pillsnap.export.quantize.recipe import METHODS, PRECISIONS, Quantized, describe_quantized
from pillsnap.export.quantize.sensitivity import Search, find_float_nodes

__all__ = [
    "METHODS",
    "PRECISIONS",
    "STATIC_OPS",
    "Calibration",
    "Criterion",
    "Quantized",
    "Search",
    "choose_calibration",
    "choose_images",
    "decode_nodes",
    "describe_quantized",
    "find_float_nodes",
    "head_nodes",
    "measure_ranges",
    "quantize_dynamic",
    "quantize_once",
    "quantize_static",
    "to_fp16",
]
