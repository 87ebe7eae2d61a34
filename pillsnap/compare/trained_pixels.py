"""Where a classifier's training saw other pixels of a photo than are decoded here."""

from __future__ import annotations

from PIL import ExifTags, Image


def differs_in_timm(opened: Image.Image) -> str | None:
    """How timm's own loader, Pillow's convert("RGB"), reads a photo otherwise; None where alike.

    Args:
        opened: as decode_image shows it.
    """
    if opened.mode.startswith("I;16"):
        return (
            "grey photos of 16 bits keep their upper 8, as in ultralytics; timm cuts their values "
            "off at 255"
        )
    # Pillow itself turns a TIFF when it loads it.
    turned = opened.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    if turned and opened.format != "TIFF":
        return (
            "photos with an EXIF orientation are turned upright, as in ultralytics; timm trains on "
            "them as they are stored"
        )
    return None
