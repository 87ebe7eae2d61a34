"""How far two healthy float32 runs of one model may drift apart.

Measured on CPU (TorchScript exporter, opset 17): trained models 5e-7
in probability, 5e-4 px and 3e-6 in score; eight timm models of 0.4 to 28 M parameters at most 7e-6
in probability; YOLOv8, v10, 11 and 26 of random weights, whose boxes are as ill-conditioned as can
be, up to 0.07 px (torch from itself: 0.055) and 9e-5. A fault of 1 % in one weight tensor is well
above the limits.
"""

from __future__ import annotations

from pillsnap.config.figures import find_figure

PROBABILITY = find_figure("prob_err_max").noise
"""Absolute error of a class probability; reference margins within it are near ties."""

BOX_PX = find_figure("raw_box_err_px").noise
"""Absolute error of a raw box coordinate, in input pixels."""

SCORE = find_figure("raw_score_err").noise
"""Absolute error of a raw detection score; class gaps within it are near ties."""
