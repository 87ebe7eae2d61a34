"""Image files -> RGB arrays, the only decoding."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pillsnap.core.errors import ImageError
from pillsnap.core.placeholders import find_placeholder
from pillsnap.pipeline.preprocess import MAX_ASPECT, Pixels

# Only what Pillow decodes itself: an EPS file named .jpg would otherwise start Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")

_ORIENTATION = 0x0112

# A PNG of 64 MiB in chunks of 8 KiB needs 33,000 reads; each takes Pillow some microseconds.
_MOST_READS = 200_000

# Pillow's own: once imported, ultralytics puts one in its place that installs a package when it
# meets a file that is no image.
_open = getattr(sys.modules.get("ultralytics.utils.patches"), "_image_open", Image.open)


def read_image(path: Path) -> Pixels:
    """Read and decode an image file; errors are read_bytes' and decode_image's."""
    return decode_image(read_bytes(path), path)


def image_size(data: bytes) -> int:
    """Pixels of an image by its head, nothing decoded; 0 for what decode_image will refuse."""
    try:
        with _open(_Counted(data), formats=_FORMATS) as opened:
            return opened.width * opened.height
    except Exception:  # as in decode_image
        return 0


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file; raises ImageError where it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as problem:  # a name with a NUL is a ValueError
        raise _refusal(problem, path) from problem


def decode_image(
    data: bytes, path: PurePath, look: Callable[[Image.Image], object] | None = None
) -> Pixels:
    """Decode an image, turned upright by its EXIF orientation.

    Alpha is dropped, not composited; 16-bit values keep their upper 8 bits; of several frames it
    is the first.

    Args:
        path: where it came from, for the error.
        look: is shown the image as it is stored, before it is turned.

    Returns:
        RGB, [H, W, 3], contiguous and writable.

    Raises:
        ImageError: damaged, no image, grey of 32 bits, too many pixels, or one side over MAX_ASPECT
            times the other.
    """
    try:
        with _open(_Counted(data), formats=_FORMATS) as opened:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and opened.width * opened.height > limit:
                # Pillow itself only warns up to twice the limit.
                raise Image.DecompressionBombError
            if max(opened.size) > MAX_ASPECT * min(opened.size):
                raise _Unfit(
                    f"one side is over {MAX_ASPECT} times the other, {opened.width} x "
                    f"{opened.height} pixels",
                    "cut it to what it is to show",
                )
            if look is not None:
                look(opened)
            return _to_rgb(_upright(opened))
    except Exception as problem:  # Pillow raises a dozen types, SyntaxError among them
        raise _refusal(problem, path, data) from problem


class _Unfit(Exception):
    """An image that Pillow would take; reason and next step."""


class _Counted(io.BytesIO):
    """A file that is not read for ever, as one of a million empty chunks would be: Pillow reads the
    structure of every format in Python, piece by piece.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self._reads += 1
        if self._reads > _MOST_READS:
            raise _Unfit("it is made of too many pieces", "save it anew from its source")
        return super().read(size)


def _refusal(problem: Exception, path: PurePath, data: bytes = b"") -> ImageError:
    standing = find_placeholder(data, path)
    if isinstance(problem, UnidentifiedImageError) and standing is not None:
        reason, hint = f"it is {standing.kind}", standing.hint
    elif isinstance(problem, FileNotFoundError) and "\\" in str(path):
        reason = "there is no such file, and a backslash, as on Windows, separates nothing here"
        hint = "write its path with /, from the folder that the other paths start at"
    else:
        reason, hint = _explain(problem)
    return ImageError(f"this image cannot be read: {reason}", where=path, hint=hint)


def _upright(image: Image.Image) -> Image.Image:
    """An image turned by its EXIF orientation; the one before is let go, since two take too much
    memory. Turning it in place is not for Pillow 9."""
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    turned = ImageOps.exif_transpose(image)
    image.close()
    return turned


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: grey of 32 bits has no agreed white")
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if image.mode == "P" and "transparency" in image.info:  # straight to RGB Pillow warns
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _explain(problem: Exception) -> tuple[str, str]:
    """Reason and next step."""
    if isinstance(problem, _Unfit):
        return problem.args[0], problem.args[1]
    if isinstance(problem, FileNotFoundError):
        return "there is no such file", "check the path, or a link that leads nowhere"
    if isinstance(problem, UnidentifiedImageError):
        return "it is empty or no image", "replace it with one of: " + ", ".join(_FORMATS)
    if isinstance(problem, Image.DecompressionBombError | Image.DecompressionBombWarning):
        limit = Image.MAX_IMAGE_PIXELS
        return "it has too many pixels", f"scale it down to at most {limit} pixels"
    if isinstance(problem, MemoryError):
        return "it takes too much memory", "scale it down, or save it anew from its source"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror.lower(), "make it a file that can be read"
    return str(problem) or type(problem).__name__, "save it anew from its source, 8 bits a channel"
