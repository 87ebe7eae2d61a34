"""Is it the input? Channel order, scale, mean and std, cropping, resizing.

What can be undone is undone on the candidate's input. Resizing and cropping cannot: there the
reference gets the images as the hypothesis says, and then has to answer as the candidate does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np

from pillsnap.diagnose.distance import Figures, gap_of
from pillsnap.diagnose.subject import Subject
from pillsnap.diagnose.trials import Trial, Trials
from pillsnap.engines import Batch, Transform
from pillsnap.pipeline.preprocess import Pixels, Tensor, preprocess, resize_by_opencv, resized_sides
from pillsnap.pipeline.transforms import CROP_MODES, ClassifyTransform, LetterboxTransform

_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
# What classifiers are trained with most often: ImageNet's, Inception's, none.
_MEANS = {
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
_OPENCV = ("nearest", "linear", "cubic", "area")
_CROPS = (0.875, 0.9, 0.95, 1.0)

Variants = Iterator[tuple[str, Callable[[Pixels], Tensor]]]


def input_trials(subject: Subject, wanted: Batch) -> Trials:
    """Trials about preprocessing, what is particular first; `wanted` is the reference's answer."""
    batch = subject.candidate.batch(subject.images)
    own = subject.reference.batch(subject.images)

    def fed(given: Batch) -> Figures:
        return gap_of(wanted, subject.candidate.network, given)

    for name, cause, change in _undone(subject):
        given = np.ascontiguousarray(change(batch), np.float32)
        yield Trial("preprocessing", name, cause, partial(fed, given))
    answer = subject.candidate.network(batch)

    def repeated(given: Batch) -> Figures:
        return gap_of(answer, subject.reference.network, given)

    for name, prepare in _variants(subject):
        other = np.stack([prepare(image) for image in subject.images])
        if np.array_equal(other, own):
            continue  # these images cannot tell

        cause = f"preprocessing: {name} on the candidate's side"
        yield Trial(
            "preprocessing", f"the same for the reference: {name}", cause, partial(repeated, other)
        )
    if not np.array_equal(batch, own):
        yield Trial(
            "preprocessing",
            "the reference's input for the candidate",
            "preprocessing differs between the two sides",
            lambda: fed(own),
        )


def _undone(subject: Subject) -> Iterator[tuple[str, str, Callable[[Batch], Batch]]]:
    """(what is done, what was wrong then, the change of the candidate's input)."""
    mean, std = np.zeros((3, 1, 1), np.float32), np.ones((3, 1, 1), np.float32)
    transform = subject.transform
    if isinstance(transform, ClassifyTransform):
        mean = np.asarray(transform.mean, np.float32)[:, None, None]
        std = np.asarray(transform.std, np.float32)[:, None, None]

    def pixels(x: Batch) -> Batch:
        found: Batch = x * std + mean
        return found

    def normalised(x: Batch) -> Batch:
        found: Batch = (x - mean) / std
        return found

    order = "channel order: BGR on one side, RGB on the other"
    yield "red and blue swapped", order, lambda x: normalised(pixels(x)[:, ::-1])
    if (mean != mean[0]).any() or (std != std[0]).any():
        yield "red and blue swapped after mean and std", order, lambda x: x[:, ::-1]
    if mean.any() or (std != 1).any():
        yield "mean and std applied", "normalisation: no mean and std", normalised
        yield "mean and std taken back", "normalisation: mean and std applied twice", pixels
        yield (
            "divided by 255, mean and std applied",
            "scale: 0..255 without mean and std",
            lambda x: normalised(x / np.float32(255)),
        )
    yield (
        "pixels times 255",
        "scale: divided by 255 once too often",
        lambda x: normalised(pixels(x) * np.float32(255)),
    )
    yield (
        "pixels divided by 255",
        "scale: 0..255 in place of 0..1",
        lambda x: normalised(pixels(x) / np.float32(255)),
    )


def _variants(subject: Subject) -> Variants:
    transform = subject.transform
    if isinstance(transform, LetterboxTransform):
        return _letterbox_variants(transform)
    return _classify_variants(transform)


def _letterbox_variants(transform: LetterboxTransform) -> Variants:
    for value in (0, 128, 255):
        other = replace(transform, pad_value=value)
        yield f"padding of {value}", partial(preprocess, transform=other)
    size = (transform.width, transform.height)
    # An image that fits already is not resized again.
    yield (
        "stretched in place of letterboxed",
        _after(partial(resize_by_opencv, size=size, interpolation="linear"), transform),
    )
    for name in _OPENCV:
        fit = partial(_fitted, transform=transform, name=name)
        yield f"resized by OpenCV's {name}", _after(fit, transform)


def _classify_variants(transform: ClassifyTransform) -> Variants:
    for name, (mean, std) in _MEANS.items():
        yield (
            f"mean and std {name}",
            partial(preprocess, transform=replace(transform, mean=mean, std=std)),
        )
    for name in _FILTERS:
        other = replace(transform, interpolation=name)
        yield f"resized by {name}", partial(preprocess, transform=other)
    for name in _OPENCV if find_spec("cv2") else ():  # classifiers do without
        fit = partial(_fitted, transform=transform, name=name)
        yield f"resized by OpenCV's {name}, without antialiasing", _after(fit, transform)
    for share in _CROPS:
        yield f"crop_pct {share}", partial(preprocess, transform=replace(transform, crop_pct=share))
    for mode in CROP_MODES:
        if mode != transform.crop_mode:
            other = replace(transform, crop_pct=1.0, crop_mode=mode)
            yield f"crop_mode {mode}", partial(preprocess, transform=other)


def _after(change: Callable[[Pixels], Pixels], transform: Transform) -> Callable[[Pixels], Tensor]:
    return lambda image: preprocess(change(image), transform)


def _fitted(image: Pixels, transform: Transform, name: str) -> Pixels:
    """An image resized by OpenCV to the size that a transform resizes it to."""
    height, width = image.shape[:2]
    if isinstance(transform, LetterboxTransform):
        ratio = min(transform.height / height, transform.width / width)
        sides = max(1, round(width * ratio)), max(1, round(height * ratio))
    else:
        sides = resized_sides(width, height, transform)
    return resize_by_opencv(image, sides, name)
