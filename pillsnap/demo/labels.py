"""YOLO's label format for the demo's scenes."""

from __future__ import annotations

from collections.abc import Iterable

from pillsnap.demo.render import Box

CLASS_NAME = "pill"
"""The detector's only class, index 0."""


def yolo_label(boxes: Iterable[Box], width: int, height: int) -> str:
    """The text of a label file: class 0, then centre and size as shares of the image."""
    return "".join(
        f"0 {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f}"
        f" {(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n"
        for _, x1, y1, x2, y2 in boxes
    )
