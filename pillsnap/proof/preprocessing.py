"""Faults of preprocessing: the candidate sees other pixels than the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pillsnap.config.cells import DETECTION
from pillsnap.config.settings import Config
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.preprocess import Pixels, Tensor, preprocess, resize_by_opencv
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform
from pillsnap.proof.fault import CLASSIFIER, DETECTOR, Bench, Fault, Injection, fault

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

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


def _channels(values: Sequence[float]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)[:, None, None]


def _normalised(pixels: Pixels, transform: ClassifyTransform) -> Tensor:
    """uint8 [S,S,3] -> the input tensor [3,S,S]."""
    tensor = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    result: Tensor = (tensor - _channels(transform.mean)) / _channels(transform.std)
    return result


@fault("preprocessing", "red and blue swapped")
def bgr_for_rgb(bench: Bench) -> Injection:
    return feed(lambda batch: batch[:, ::-1])


@fault("preprocessing", "values 0..1, neither mean nor std", CLASSIFIER)
def no_mean_std(bench: Bench) -> Injection:
    mean, std = (_channels(values) for values in (_classify(bench).mean, _classify(bench).std))
    return feed(lambda batch: batch * std + mean)


@fault("preprocessing", "ImageNet's mean and std for 0.5", CLASSIFIER)
def imagenet_mean_std(bench: Bench) -> Injection:
    mean, std = _IMAGENET
    return reread(partial(preprocess, transform=replace(_classify(bench), mean=mean, std=std)))


@fault("preprocessing", "mean of red off by one level of 255", CLASSIFIER)
def mean_off_by_one_level(bench: Bench) -> Injection:
    right = _classify(bench)
    red, green, blue = right.mean
    mean = (red + 1 / 255, green, blue)
    return reread(partial(preprocess, transform=replace(right, mean=mean)))


@fault("preprocessing", "bilinear for bicubic", CLASSIFIER)
def other_interpolation(bench: Bench) -> Injection:
    wrong = replace(_classify(bench), interpolation="bilinear")
    return reread(partial(preprocess, transform=wrong))


@fault("preprocessing", "OpenCV's bicubic, which does not antialias", CLASSIFIER)
def no_antialias(bench: Bench) -> Injection:
    right = _classify(bench)

    def tensor(image: Pixels) -> Tensor:
        size = right.size
        height, width = image.shape[:2]
        scale = size / min(height, width)
        sides = (max(size, int(width * scale)), max(size, int(height * scale)))
        resized = resize_by_opencv(image, sides, "cubic")
        left, top = ((side - size) // 2 for side in sides)
        return _normalised(resized[top : top + size, left : left + size], right)

    return reread(tensor)


@fault("preprocessing", "the whole photo squeezed into a square", CLASSIFIER)
def stretch_for_centre_crop(bench: Bench) -> Injection:
    right = _classify(bench)

    def tensor(image: Pixels) -> Tensor:
        resized = Image.fromarray(image).resize((right.size,) * 2, Image.Resampling.BICUBIC)
        return _normalised(np.asarray(resized), right)

    return reread(tensor)


@fault("preprocessing", "cut one pixel to the right, the last column repeated", CLASSIFIER)
def crop_off_by_one(bench: Bench) -> Injection:
    return feed(lambda batch: np.concatenate([batch[..., 1:], batch[..., -1:]], axis=-1))


@fault("preprocessing", "crop_pct 0.875 for 1.0", CLASSIFIER)
def other_crop(bench: Bench) -> Injection:
    return reread(partial(preprocess, transform=replace(_classify(bench), crop_pct=0.875)))


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
    assert source is not None
    for index, photo in enumerate(sorted(source.rglob("*.png"))):
        copy = folder / "photos" / photo.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if index % 4:
            copy.unlink(missing_ok=True)
            copy.symlink_to(photo.resolve())
            continue
        with Image.open(photo) as image:
            exif = Image.Exif()
            exif[_ORIENTATION] = _TURNED
            image.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(copy, exif=exif)
    val = replace(config.data.val, single=folder / "photos")
    return replace(config, data=replace(config.data, val=val))


@fault("preprocessing", "divided by 255 twice")
def scaled_twice(bench: Bench) -> Injection:
    if bench.stage == DETECTION:
        return feed(lambda batch: batch / np.float32(255))
    mean, std = (_channels(values) for values in (_classify(bench).mean, _classify(bench).std))
    return feed(lambda batch: ((batch * std + mean) / np.float32(255) - mean) / std)


@fault("preprocessing", "0..255 for 0..1", DETECTOR)
def never_scaled(bench: Bench) -> Injection:
    return feed(lambda batch: batch * 255)


@fault("preprocessing", "black padding for grey 114", DETECTOR)
def padding_0(bench: Bench) -> Injection:
    return reread(partial(preprocess, transform=replace(_letterbox(bench), pad_value=0)))


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
        lambda image: _scaled(resize_by_opencv(image, (right.width, right.height), "linear"))
    )


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
    return _scaled(canvas)


def _scaled(pixels: Pixels) -> Tensor:
    return pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


FAULTS: tuple[Fault, ...] = (
    *bgr_for_rgb,
    *no_mean_std,
    *imagenet_mean_std,
    *mean_off_by_one_level,
    *other_interpolation,
    *no_antialias,
    *stretch_for_centre_crop,
    *crop_off_by_one,
    *other_crop,
    *exif_ignored,
    *scaled_twice,
    *never_scaled,
    *padding_0,
    *area_for_linear,
    *padding_not_centred,
    *stretch_for_letterbox,
)
