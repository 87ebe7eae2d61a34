"""How far two healthy float32 runs of one model may drift apart.

Healthy exports measured about 1e-6 in probability, 5e-4 px and 2e-6 in score (YOLO11n at 640 px and
six timm families, TorchScript exporter, ONNX Runtime on CPU). The limits leave two orders of
magnitude above that and stay two below a 1 % fault in one weight tensor.
"""

from __future__ import annotations

PROBABILITY = 1e-4
"""Absolute error of a class probability; reference margins within it are near ties."""

BOX_PX = 0.05
"""Absolute error of a raw box coordinate, in input pixels."""

SCORE = 1e-4
"""Absolute error of a raw detection score; class gaps within it are near ties."""
