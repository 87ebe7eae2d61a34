"""ONNX files in float32 to files in float16 and INT8, and what must stay float in them."""

from __future__ import annotations

from pillsnap.export.quantize.calibration import Calibration, choose_calibration
from pillsnap.export.quantize.convert import Criterion
from pillsnap.export.quantize.publish import quantize_once
from pillsnap.export.quantize.recipe import METHODS, describe_quantized, require_opened
from pillsnap.export.quantize.sensitivity import Tell
from pillsnap.export.quantize.trials import Loss

__all__ = [
    "METHODS",
    "Calibration",
    "Criterion",
    "Loss",
    "Tell",
    "choose_calibration",
    "describe_quantized",
    "quantize_once",
    "require_opened",
]
