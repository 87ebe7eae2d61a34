"""Cutting a detected pill out of its photo, the only implementation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pillsnap.pipeline.preprocess import MAX_ASPECT, Pixels


def crop_box(image: Pixels, box: Sequence[float], margin: float) -> Pixels:
    """The part of an image that a box covers, widened and cut at the image's edges.

    Args:
        image: uint8 [H, W, 3].
        box: x1, y1, x2, y2 in pixels of the image, finite.
        margin: added on each side, as a share of the box's width or height; 0 or more.

    Returns:
        uint8 [h, w, 3], a view; every pixel that the widened box touches, at least one. Of a part
        whose one side is over MAX_ASPECT times the other, the middle of that length.
    """
    height, width = image.shape[:2]
    left, right = _span(box[0], box[2], margin, width)
    top, bottom = _span(box[1], box[3], margin, height)
    longest = MAX_ASPECT * min(right - left, bottom - top)
    return image[_middle(top, bottom, longest), _middle(left, right, longest)]


def _span(low: float, high: float, margin: float, size: int) -> tuple[int, int]:
    """First pixel and the one after the last of a side; an empty or outer one keeps a pixel."""
    widen = margin * max(high - low, 0.0)
    first = min(max(math.floor(low - widen), 0), size - 1)
    return first, max(min(math.ceil(high + widen), size), first + 1)


def _middle(first: int, end: int, longest: int) -> slice:
    cut = max(end - first - longest, 0)
    return slice(first + cut // 2, end - (cut - cut // 2))
