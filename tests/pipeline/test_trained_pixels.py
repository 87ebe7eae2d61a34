"""Photos are read as both trainings read them: ultralytics by OpenCV, timm by Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pillsnap.compare.loading import load_batches
from pillsnap.core.errors import ImageError
from pillsnap.data.datasets import Sample
from pillsnap.engines.torch.yolo import quiet_ultralytics
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform

TRANSFORM = ClassifyTransform(8, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
Y, X = np.mgrid[0:48, 0:64]
RGB = np.stack([X * 4, Y * 5, X + Y], -1).astype(np.uint8)
GREY16 = (RGB[..., 1].astype(np.uint16) << 8) + 77
ALPHA = np.dstack([RGB, (X * 4).astype(np.uint8)])


def turned(orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


PHOTOS: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "cmyk.jpg": (Image.fromarray(RGB).convert("CMYK"), {"quality": 95}),
    "grey.jpg": (Image.fromarray(RGB).convert("L"), {}),
    "420.jpg": (Image.fromarray(RGB), {"quality": 60, "subsampling": 2, "progressive": True}),
    "alpha.png": (Image.fromarray(ALPHA), {}),
    "alpha.webp": (Image.fromarray(ALPHA), {"lossless": True}),
    "palette.png": (Image.fromarray(RGB).convert("P"), {"transparency": bytes(range(256))}),
    "bits.png": (Image.fromarray(RGB).convert("1"), {}),
    "lzw.tif": (Image.fromarray(RGB), {"compression": "tiff_lzw"}),
    "turned.tif": (Image.fromarray(RGB), turned(8)),
    "turned.jpg": (Image.fromarray(RGB), turned(6)),
    "turned.png": (Image.fromarray(RGB), turned(3)),
    "deep.png": (Image.fromarray(GREY16), {}),
    "deep.tif": (Image.fromarray(GREY16), {}),
}
OTHERWISE_IN_TIMM = {
    "turned.jpg": "as they are stored",
    "turned.png": "as they are stored",
    "deep.png": "off at 255",
    "deep.tif": "off at 255",
}


def far(ours: np.ndarray, theirs: np.ndarray) -> int:
    """The largest difference of a value; all there can be where the sizes differ."""
    if ours.shape != theirs.shape:
        return 255
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_is_what_training_saw_or_it_is_said(tmp_path: Path, name: str) -> None:
    quiet_ultralytics()
    from ultralytics.utils.patches import imread

    photo, options = PHOTOS[name]
    photo.save(tmp_path / name, **options)
    ours = read_image(tmp_path / name)
    assert far(ours, imread(str(tmp_path / name))[..., ::-1]) <= 2
    with Image.open(tmp_path / name) as opened:
        assert (far(ours, np.asarray(opened.convert("RGB"))) > 2) == (name in OTHERWISE_IN_TIMM)
    sample = Sample(name, tmp_path, 0)
    (batch,) = load_batches([sample], TRANSFORM, 1)
    assert len(batch.remarks) == (name in OTHERWISE_IN_TIMM)
    assert all(OTHERWISE_IN_TIMM[name] in remark for remark in batch.remarks)
    (batch,) = load_batches([sample], LetterboxTransform(32, 32), 1)
    assert not batch.remarks


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_a_photo_cut_off_is_read_by_neither_training(tmp_path: Path, name: str) -> None:
    quiet_ultralytics()
    from ultralytics.data.utils import check_image

    path = tmp_path / name
    Image.fromarray(RGB).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageError):
        read_image(path)
    with pytest.raises(OSError), Image.open(path) as opened:
        opened.convert("RGB")
    with pytest.raises(Exception, match=r"(?i)trunc|broken|decoder"):
        check_image(str(path))
