"""From an RGB image to a model's input tensor: the only implementation, whichever engine runs.

Both transforms repeat what the models were trained with, bit for bit: timm's evaluation transform
(torchvision's Resize, CenterCrop, ToTensor and Normalize on a PIL image) and ultralytics'
LetterBox followed by its predictor's scaling to 0..1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pillsnap.core.errors import EngineError
from pillsnap.pipeline.transforms import FILTERS, ClassifyTransform, Geometry, LetterboxTransform

Pixels = NDArray[np.uint8]
Tensor = NDArray[np.float32]

# Most that an image's long side is of its short one. The short side is resized to the input and the
# long one grows with it: without a bound one pixel by 20,000 takes 800 MiB.
MAX_ASPECT = 500


def preprocess(image: Pixels, transform: ClassifyTransform | LetterboxTransform) -> Tensor:
    """The input tensor of an image: see classify_tensor and letterbox_tensor; raises ValueError as
    they do, or for a transform of no known type."""
    return preprocess_placed(image, transform)[0]


def preprocess_placed(
    image: Pixels, transform: ClassifyTransform | LetterboxTransform
) -> tuple[Tensor, Geometry | None]:
    """`preprocess`, and where a letterboxed image lies in its input."""
    if isinstance(transform, ClassifyTransform):
        return classify_tensor(image, transform), None
    if isinstance(transform, LetterboxTransform):
        return letterbox_tensor(image, transform)
    raise ValueError(f"no preprocessing for a transform of type {type(transform).__name__}")


def classify_tensor(image: Pixels, transform: ClassifyTransform) -> Tensor:
    """A classifier's input, bit-equal to timm.data.create_transform(..., is_training=False).

    The whole image is resized and then cut, like there. Cutting first, or resizing one axis at a
    time, would be cheaper, but not the same bytes: Pillow rounds to 8 bits between its passes, and
    from version 13 on their order depends on the sizes.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        float32 [3, size, size], C-contiguous.

    Raises:
        ValueError: the image is not such an array, or one side is over MAX_ASPECT times the other.
    """
    _check(image)
    size, resample = transform.size, FILTERS[transform.interpolation]
    width, height = image.shape[1], image.shape[0]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"one side is over {MAX_ASPECT} times the other: {width} x {height}")
    resized = Image.fromarray(image).resize(resized_sides(width, height, transform), resample)
    border = transform.crop_mode == "border"
    fill = tuple(round(255 * value) if border else 0 for value in transform.mean)
    canvas = Image.new("RGB", (size, size), fill)
    canvas.paste(resized, (_offset(resized.width, size), _offset(resized.height, size)))
    tensor = _scaled(np.asarray(canvas))
    tensor -= np.asarray(transform.mean, np.float32)[:, None, None]
    tensor /= np.asarray(transform.std, np.float32)[:, None, None]
    return tensor


def resized_sides(width: int, height: int, transform: ClassifyTransform) -> tuple[int, int]:
    """Width and height in pixels that an image is resized to before the centre is cut."""
    goal = max(1, math.floor(transform.size / transform.crop_pct))
    if transform.crop_mode == "squash":
        return goal, goal
    if transform.crop_mode == "border":
        ratio = max(width / goal, height / goal)
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    long = int(goal * max(height, width) / min(height, width))
    return (goal, long) if width <= height else (long, goal)


def letterbox_tensor(image: Pixels, transform: LetterboxTransform) -> tuple[Tensor, Geometry]:
    """A detector's input, bit-equal to ultralytics' LetterBox(auto=False, scaleup=True) and / 255.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        The input, float32 [3, height, width] in 0..1, RGB, C-contiguous, and how to undo it.

    Raises:
        ValueError: the image is not such an array.
        EngineError: as resize_by_opencv.
    """
    _check(image)
    height, width = image.shape[:2]
    ratio = min(transform.height / height, transform.width / width)
    fit_width, fit_height = _fit(width, ratio), _fit(height, ratio)
    # The 0.1 puts the odd pixel of padding on the right and at the bottom.
    left = round((transform.width - fit_width) / 2 - 0.1)
    top = round((transform.height - fit_height) / 2 - 0.1)
    fitted = image
    if (fit_width, fit_height) != (width, height):
        fitted = resize_by_opencv(fitted, (fit_width, fit_height), "linear")
    canvas = np.full((transform.height, transform.width, 3), transform.pad_value, np.uint8)
    canvas[top : top + fit_height, left : left + fit_width] = fitted
    return _scaled(canvas), Geometry(ratio, left, top, width, height)


def resize_by_opencv(image: Pixels, size: tuple[int, int], interpolation: str) -> Pixels:
    """An image resized to (width, height) by a filter of OpenCV, as "linear"; raises EngineError
    where that cannot be imported."""
    try:
        import cv2  # here: classifiers do without

        resize, flag = cv2.resize, getattr(cv2, f"INTER_{interpolation.upper()}")
    except (ImportError, AttributeError) as error:  # the latter from a folder without contents
        raise EngineError(
            "OpenCV, which resizes a detector's images, cannot be imported",
            got=error,
            hint="pip install opencv-python-headless, in place of an opencv-python that lacks "
            "libraries of the system",
        ) from error
    resized: Pixels = resize(np.ascontiguousarray(image), size, interpolation=flag)
    return resized


def unletterbox(boxes: Tensor, geometry: Geometry) -> Tensor:
    """Boxes in pixels of the original image, as ultralytics' ops.scale_boxes gives them from
    8.4.183 on.

    The scale is taken per axis from the rounded sides, since that is how far the pixels moved.

    Args:
        boxes: float32 [K, 4], x1, y1, x2, y2 in input pixels.
        geometry: what letterbox_tensor returned for the image.

    Returns:
        float32 [K, 4], x1, y1, x2, y2 in original pixels, clipped to the image.

    Raises:
        ValueError: boxes is not [K, 4].
    """
    boxes = np.asarray(boxes, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be [K, 4], got {list(boxes.shape)}")
    sides = (geometry.width, geometry.height)
    gain = np.array([_fit(side, geometry.ratio) / side for side in sides] * 2, np.float32)
    pad = np.array([geometry.left, geometry.top] * 2, np.float32)
    # A broken model's huge box may overflow on its way to the clip.
    with np.errstate(over="ignore"):
        unpadded: Tensor = (boxes - pad) / gain
    return unpadded.clip(np.float32(0), np.array(sides * 2, np.float32))


def _fit(side: int, ratio: float) -> int:
    """A letterboxed side in whole pixels; the thinnest image keeps one."""
    return max(round(side * ratio), 1)


def _offset(side: int, size: int) -> int:
    """Where a resized side begins on the cut: torchvision rounds what it cuts off to the even
    pixel, and what it pads down."""
    return -round((side - size) / 2.0) if side > size else (size - side) // 2


def _scaled(pixels: Pixels) -> Tensor:
    """uint8 [H, W, 3] to float32 [3, H, W] in 0..1."""
    tensor = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
    tensor /= np.float32(255)
    return tensor


def _check(image: Pixels) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"an image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
