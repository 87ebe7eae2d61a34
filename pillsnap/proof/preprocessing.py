"""Faults of preprocessing: the candidate sees other pixels than the reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pillsnap.compare.tasks import read_samples
from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.preprocess import Pixels, Tensor, preprocess, resize_by_opencv
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform
from pillsnap.proof.fault import CLASSIFIER, DETECTOR, Bench, Injection, NotApplicable, fault
from pillsnap.proof.wrong_preprocessing import (
    black_padding,
    channels,
    letterboxed,
    normalised,
    other_filter,
    other_normalisation,
    scaled,
)

# EXIF's tag of the orientation, and "turn a quarter to the right to see it upright".
_ORIENTATION, _TURNED = 0x0112, 6


def reread(tensor: Callable[[Pixels], Tensor]) -> Injection:
    """Feed the candidate its images anew, through another preprocessing."""

    def see(samples: Sequence[Sample], _: Batch) -> Batch:
        return np.stack([tensor(read_image(sample.path)) for sample in samples])

    return Injection(see=see)


def feed(change: Callable[[Batch], Batch]) -> Injection:
    """Feed the candidate a changed array, where that needs no image read anew."""
    return Injection(see=lambda _, batch: np.ascontiguousarray(change(batch), np.float32))


def _classify(bench: Bench) -> ClassifyTransform:
    assert isinstance(bench.transform, ClassifyTransform)
    return bench.transform


def _letterbox(bench: Bench) -> LetterboxTransform:
    assert isinstance(bench.transform, LetterboxTransform)
    return bench.transform


@fault("preprocessing", "red and blue swapped")
def bgr_for_rgb(bench: Bench) -> Injection:
    return feed(lambda batch: batch[:, ::-1])


@fault("preprocessing", "values 0..1, neither mean nor std", CLASSIFIER)
def no_mean_std(bench: Bench) -> Injection:
    mean, std = (channels(values) for values in (_classify(bench).mean, _classify(bench).std))
    return feed(lambda batch: batch * std + mean)


@fault("preprocessing", "another common mean and std, ImageNet's or 0.5", CLASSIFIER)
def other_mean_std(bench: Bench) -> Injection:
    mean, std = other_normalisation(_classify(bench))
    return reread(partial(preprocess, transform=replace(_classify(bench), mean=mean, std=std)))


@fault("preprocessing", "mean of red off by one level of 255", CLASSIFIER)
def mean_off_by_one_level(bench: Bench) -> Injection:
    right = _classify(bench)
    red, green, blue = right.mean
    mean = (red + (1 / 255 if red + 1 / 255 <= 1 else -1 / 255), green, blue)
    return reread(partial(preprocess, transform=replace(right, mean=mean)))


@fault("preprocessing", "bilinear for bicubic, or the other way round", CLASSIFIER)
def other_interpolation(bench: Bench) -> Injection:
    return reread(partial(preprocess, transform=other_filter(_classify(bench))))


@fault("preprocessing", "OpenCV's bicubic, which does not antialias", CLASSIFIER)
def no_antialias(bench: Bench) -> Injection:
    right = _classify(bench)

    def tensor(image: Pixels) -> Tensor:
        size = right.size
        height, width = image.shape[:2]
        scale = size / right.crop_pct / min(height, width)
        sides = (max(size, int(width * scale)), max(size, int(height * scale)))
        resized = resize_by_opencv(image, sides, "cubic")
        left, top = ((side - size) // 2 for side in sides)
        return normalised(resized[top : top + size, left : left + size], right)

    return reread(tensor)


@fault("preprocessing", "the whole photo squeezed into a square", CLASSIFIER)
def stretch_for_centre_crop(bench: Bench) -> Injection:
    right = _classify(bench)
    if right.crop_mode == "squash":
        raise NotApplicable("this network was trained on photos that were squeezed")

    def tensor(image: Pixels) -> Tensor:
        resized = Image.fromarray(image).resize((right.size,) * 2, Image.Resampling.BICUBIC)
        return normalised(np.asarray(resized), right)

    return reread(tensor)


@fault("preprocessing", "cut one pixel to the right, the last column repeated", CLASSIFIER)
def crop_off_by_one(bench: Bench) -> Injection:
    return feed(lambda batch: np.concatenate([batch[..., 1:], batch[..., -1:]], axis=-1))


@fault("preprocessing", "crop_pct an eighth smaller", CLASSIFIER)
def other_crop(bench: Bench) -> Injection:
    right = _classify(bench)
    return reread(partial(preprocess, transform=replace(right, crop_pct=right.crop_pct * 0.875)))


@fault("preprocessing", "one photo in four is stored sideways with an EXIF tag", CLASSIFIER)
def exif_ignored(bench: Bench) -> Injection:
    def as_stored(image: Path) -> Pixels:
        with Image.open(image) as opened:
            return np.array(opened.convert("RGB"))

    def see(samples: Sequence[Sample], _: Batch) -> Batch:
        images = [as_stored(sample.path) for sample in samples]
        return np.stack([preprocess(image, bench.transform) for image in images])

    return Injection(see=see, config=_turn_photos(bench.config, bench.folder))


def _turn_photos(config: Config, folder: Path) -> Config:
    """The same photos in `folder`, every fourth of them stored sideways and tagged."""
    source = config.data.val.single
    if source is None or not source.is_dir():
        raise NotApplicable("the photos are not in one folder a class")
    for index, sample in enumerate(read_samples(config, CLASSIFICATION)):
        photo = sample.path
        copy = folder / "photos" / sample.id
        copy.parent.mkdir(parents=True, exist_ok=True)
        if index % 4:
            copy.unlink(missing_ok=True)
            copy.symlink_to(os.path.realpath(photo))
            continue
        exif = Image.Exif()
        exif[_ORIENTATION] = _TURNED
        turned = Image.fromarray(read_image(photo)).transpose(Image.Transpose.ROTATE_90)
        turned.save(copy.with_suffix(".png"), exif=exif)
    val = replace(config.data.val, single=folder / "photos")
    return replace(config, data=replace(config.data, val=val))


@fault("preprocessing", "divided by 255 twice")
def scaled_twice(bench: Bench) -> Injection:
    if bench.stage == DETECTION:
        return feed(lambda batch: batch / np.float32(255))
    mean, std = (channels(values) for values in (_classify(bench).mean, _classify(bench).std))
    return feed(lambda batch: ((batch * std + mean) / np.float32(255) - mean) / std)


@fault("preprocessing", "0..255 for 0..1", DETECTOR)
def neverscaled(bench: Bench) -> Injection:
    return feed(lambda batch: batch * 255)


@fault("preprocessing", "black padding for grey 114", DETECTOR)
def padding_0(bench: Bench) -> Injection:
    return reread(partial(preprocess, transform=black_padding(_letterbox(bench))))


@fault("preprocessing", "INTER_AREA for INTER_LINEAR", DETECTOR)
def area_for_linear(bench: Bench) -> Injection:
    return reread(partial(letterboxed, right=_letterbox(bench), interpolation="area"))


@fault("preprocessing", "padded at the right and bottom only", DETECTOR)
def padding_not_centred(bench: Bench) -> Injection:
    return reread(partial(letterboxed, right=_letterbox(bench), centred=False))


@fault("preprocessing", "the whole scene squeezed into a square", DETECTOR)
def stretch_for_letterbox(bench: Bench) -> Injection:
    right = _letterbox(bench)
    return reread(
        lambda image: scaled(resize_by_opencv(image, (right.width, right.height), "linear"))
    )
