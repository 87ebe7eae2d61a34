"""Preprocessings that are common elsewhere, and wrong for this network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pillsnap.pipeline.preprocess import Pixels, Tensor, resize_by_opencv
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform

Triple = tuple[float, float, float]

# Means and standard deviations that networks are trained with: ImageNet's, and halves.
_COMMON: tuple[tuple[Triple, Triple], ...] = (
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
)


def other_mean(right: ClassifyTransform) -> ClassifyTransform:
    """The mean of another common normalisation, with the right std."""
    return replace(right, mean=other_normalisation(right)[0])


def other_filter(right: ClassifyTransform) -> ClassifyTransform:
    """An interpolation that is common, and wrong."""
    wrong = "bicubic" if right.interpolation == "bilinear" else "bilinear"
    return replace(right, interpolation=wrong)


def black_padding(right: LetterboxTransform) -> LetterboxTransform:
    """Zeros around a scene."""
    return replace(right, pad_value=0)


def other_normalisation(right: ClassifyTransform) -> tuple[Triple, Triple]:
    return next(pair for pair in _COMMON if pair[0] != right.mean)


def channels(values: Sequence[float]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)[:, None, None]


def normalised(pixels: Pixels, transform: ClassifyTransform) -> Tensor:
    """uint8 [S,S,3] -> the input tensor [3,S,S]."""
    tensor = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    result: Tensor = (tensor - channels(transform.mean)) / channels(transform.std)
    return result


def letterboxed(
    image: Pixels,
    right: LetterboxTransform,
    interpolation: str = "linear",
    centred: bool = True,
) -> Tensor:
    height, width = image.shape[:2]
    ratio = min(right.height / height, right.width / width)
    sides = (round(width * ratio), round(height * ratio))
    resized = image
    if sides != (width, height):
        resized = resize_by_opencv(image, sides, interpolation)
    canvas = np.full((right.height, right.width, 3), right.pad_value, np.uint8)
    left, top = (
        (round((whole - side) / 2 - 0.1) if centred else 0)
        for whole, side in zip((right.width, right.height), sides, strict=True)
    )
    canvas[top : top + sides[1], left : left + sides[0]] = resized
    return scaled(canvas)


def scaled(pixels: Pixels) -> Tensor:
    return pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
