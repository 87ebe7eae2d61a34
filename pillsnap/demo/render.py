"""Draws the demo's photos: one pill, or a scene of none to five. Pillow and numpy, seeded.

The same arguments give the same bytes on the same versions of Pillow and numpy. Training and
validation images come from different branches of the seed tree, so none is ever both.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pillsnap.demo.drugs import DRUGS, Drug
from pillsnap.demo.pills import extent, put_pill

__all__ = ["DRUGS", "Drug", "render_crop", "render_scene", "render_single"]

Split = Literal["train", "val"]
Box = tuple[int, float, float, float, float]
"""Drug index, then x1, y1, x2, y2 in pixels of the scene."""

_TILT_MAX_DEG = 30.0
_SCENE_SIZES = ((640, 480), (640, 640), (800, 600), (480, 640))
_SCENE_COUNTS = (0.08, 0.20, 0.22, 0.20, 0.16, 0.14)
_PILL_PX = (24.0, 400.0)
"""Range of a pill's longest side in a scene whose longest side is 640 px."""
_SPLITS = {"train": 1, "val": 2}
_KINDS = {"single": 1, "scene": 2, "crop": 3}


def render_single(drug_index: int, seed: int, *, split: Split = "val") -> Image.Image:
    """A photo of one pill that fills most of it: RGB, 110 to 200 px a side, seldom square."""
    rng = _generator(split, "single", drug_index, seed)
    height = int(rng.integers(110, 176))
    width = round(height * float(rng.uniform(0.9, 1.15)))
    tilt_deg = float(rng.uniform(-_TILT_MAX_DEG, _TILT_MAX_DEG))
    # The share of the frame that the pill's bounding box takes, whichever side is the tighter.
    extent_x, extent_y = extent(DRUGS[drug_index], tilt_deg)
    fill = float(rng.uniform(0.74, 0.96))
    long_px = fill * min(width / extent_x, height / extent_y)
    canvas, light = _ground(rng, width, height)
    slack_x = (width - long_px * extent_x) / 2
    slack_y = (height - long_px * extent_y) / 2
    centre_x = width / 2 + slack_x * float(rng.uniform(-0.6, 0.6))
    centre_y = height / 2 + slack_y * float(rng.uniform(-0.6, 0.6))
    put_pill(canvas, rng, drug_index, long_px, tilt_deg, (centre_x, centre_y), light)
    return _expose(canvas, rng)


def render_scene(seed: int, *, split: Split = "val") -> tuple[Image.Image, list[Box]]:
    """A scene of none to five pills that do not overlap, and their boxes. RGB, up to 800 px."""
    rng = _generator(split, "scene", 0, seed)
    width, height = _SCENE_SIZES[int(rng.integers(len(_SCENE_SIZES)))]
    canvas, light = _ground(rng, width, height)
    count = int(rng.choice(len(_SCENE_COUNTS), p=_SCENE_COUNTS))
    scale = max(width, height) / 640
    sizes_px = scale * np.exp(rng.uniform(math.log(_PILL_PX[0]), math.log(_PILL_PX[1]), size=count))
    boxes: list[Box] = []
    taken: list[tuple[float, float, float, float]] = []
    for long_px in sorted(map(float, sizes_px), reverse=True):  # large ones find no room later
        drug_index = int(rng.integers(len(DRUGS)))
        tilt_deg = float(rng.uniform(-_TILT_MAX_DEG, _TILT_MAX_DEG))
        extent_x, extent_y = extent(DRUGS[drug_index], tilt_deg)
        half_x, half_y = long_px * extent_x / 2 + 3, long_px * extent_y / 2 + 3
        if 2 * half_x > width or 2 * half_y > height:
            continue
        for _ in range(40):
            x = float(rng.uniform(half_x, width - half_x))
            y = float(rng.uniform(half_y, height - half_y))
            frame = (x - half_x, y - half_y, x + half_x, y + half_y)
            if any(_overlap(frame, other) for other in taken):
                continue
            taken.append(frame)
            box = put_pill(canvas, rng, drug_index, long_px, tilt_deg, (x, y), light)
            boxes.append((drug_index, *box))
            break
    return _expose(canvas, rng), boxes


def render_crop(drug_index: int, seed: int, *, split: Split = "train") -> Image.Image:
    """One pill cut out along its box, as the detector's crops look. RGB, 44 to 300 px long."""
    rng = _generator(split, "crop", drug_index, seed)
    long_px = float(np.exp(rng.uniform(math.log(44), math.log(280))))
    tilt_deg = float(rng.uniform(-_TILT_MAX_DEG, _TILT_MAX_DEG))
    extent_x, extent_y = extent(DRUGS[drug_index], tilt_deg)
    width, height = math.ceil(long_px * extent_x * 1.2) + 6, math.ceil(long_px * extent_y * 1.2) + 6
    canvas, light = _ground(rng, width, height)
    box = put_pill(canvas, rng, drug_index, long_px, tilt_deg, (width / 2, height / 2), light)
    # A detector misses a side by a few percent, either way.
    jitter = rng.uniform(-0.035, 0.035, size=4) * long_px
    x1, y1, x2, y2 = (round(side + float(j)) for side, j in zip(box, jitter, strict=True))
    return _expose(canvas, rng).crop((max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)))


def _generator(split: Split, kind: str, drug_index: int, seed: int) -> np.random.Generator:
    return np.random.default_rng(
        np.random.SeedSequence([0x9111, _SPLITS[split], _KINDS[kind], drug_index, seed])
    )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ground(
    rng: np.random.Generator, width: int, height: int
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Textured ground, float32 [height, width, 3] in 0 to 255, and the light's direction."""
    base = rng.uniform(60, 215) * (1 + rng.uniform(-0.14, 0.14, size=3))
    texture = np.zeros((height, width), np.float32)
    for cells, strength in ((6, 16.0), (28, 9.0)):  # stains, then grain
        step = max(width, height) / cells
        coarse = rng.integers(
            0, 256, (math.ceil(height / step) + 2, math.ceil(width / step) + 2), dtype=np.uint8
        )
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        texture += (np.asarray(smooth, np.float32) - 128) * (
            strength * float(rng.uniform(0.2, 1)) / 128
        )
    angle = float(rng.uniform(0, 2 * math.pi))
    light = math.cos(angle), math.sin(angle)
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None, :]
    if rng.random() < 0.5:  # boards, or woven cloth
        pitch = float(rng.uniform(5, 40))
        across = float(rng.uniform(0, math.pi))
        phase = (x * math.cos(across) + y * math.sin(across)) * (2 * math.pi / pitch)
        texture += float(rng.uniform(2, 9)) * np.sin(phase)
    # The lamp's side of the photo is brighter.
    fall = (x / width - 0.5) * light[0] + (y / height - 0.5) * light[1]
    canvas = (base.astype(np.float32) + texture[..., None]) * (
        1 + float(rng.uniform(0, 0.3)) * fall[..., None]
    )
    if rng.random() < 0.4:  # the edge of a sheet of paper or of a tray
        x0, y0 = int(rng.integers(width)), int(rng.integers(height))
        canvas[y0 : y0 + height // 2, x0 : x0 + width // 2] *= float(rng.uniform(0.8, 1.15))
    return np.ascontiguousarray(canvas, np.float32), light


def _expose(canvas: NDArray[np.float32], rng: np.random.Generator) -> Image.Image:
    """The finished photo, RGB: exposure and sensor noise over canvas [H, W, 3]."""
    canvas *= float(rng.uniform(0.82, 1.12))
    noise = rng.standard_normal(canvas.shape[:2], dtype=np.float32)
    canvas += noise[..., None] * float(rng.uniform(1.5, 7.0))
    np.clip(canvas, 0, 255, out=canvas)
    return Image.fromarray(canvas.astype(np.uint8))
