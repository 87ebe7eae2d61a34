"""What the preprocessing of a stage is: the parameters, and where a letterboxed image lies."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

FILTERS = {
    name: Image.Resampling[name.upper()]
    for name in ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
}

CROP_MODES = ("center", "squash", "border")


@dataclass(frozen=True)
class ClassifyTransform:
    """Resize to size / crop_pct, cut the centre size x size or fill it up, normalise.

    Attributes:
        size: side of the input in pixels.
        mean: per channel (R, G, B), in units of 0..1; subtracted.
        std: per channel (R, G, B), in units of 0..1; divided by.
        interpolation: a Pillow filter: nearest, bilinear, bicubic, lanczos, box or hamming.
        crop_pct: share of the resized side that the cut keeps, above 0 and at most 2; from 1 on the
            cut is filled up.
        crop_mode: which side is resized so: "center" the shorter one, "border" the longer one (the
            rest is filled with the mean), "squash" both, whatever the aspect.

    Raises:
        ValueError: a value outside these bounds.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                f"mean and std need 3 values, std above 0, got {self.mean} and {self.std}"
            )
        if not 0 <= min(self.mean) <= max(self.mean) <= 1:
            raise ValueError(f"mean must be on the scale 0 to 1, got {self.mean}")
        if self.interpolation not in FILTERS:
            raise ValueError(f"interpolation is {self.interpolation!r}, not one of {[*FILTERS]}")
        if not 0 < self.crop_pct <= 2:
            raise ValueError(f"crop_pct must be above 0 and at most 2, got {self.crop_pct}")
        if self.crop_mode not in CROP_MODES:
            raise ValueError(f"crop_mode is {self.crop_mode!r}, not one of {[*CROP_MODES]}")

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.size, self.size


@dataclass(frozen=True)
class LetterboxTransform:
    """Scale an image into height x width pixels, its aspect kept, and pad it there centred.

    Attributes:
        height, width: of the input in pixels.
        pad_value: 0..255, in all channels.

    Raises:
        ValueError: a value outside these bounds.
    """

    height: int
    width: int
    pad_value: int = 114

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"height and width must be at least 1, got {self}")
        if not 0 <= self.pad_value <= 255:
            raise ValueError(f"pad_value must be from 0 to 255, got {self.pad_value}")

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.height, self.width


@dataclass(frozen=True)
class Geometry:
    """How an image was letterboxed, which is all that is needed to undo it.

    Attributes:
        ratio: input pixels per image pixel, before sides are rounded to whole pixels.
        left, top: padding before the image, in input pixels.
        width, height: of the original image in pixels.
    """

    ratio: float
    left: int
    top: int
    width: int
    height: int
