"""Draws the demo's photos: one pill, or a scene of none to five. Pillow and numpy, seeded.

The same arguments give the same bytes on the same versions of Pillow and numpy. Training and
validation images come from different branches of the seed tree, so none is ever both.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from pillsnap.demo.drugs import COLOURS, DRUGS, Drug

__all__ = ["DRUGS", "Drug", "render_crop", "render_scene", "render_single"]

Split = Literal["train", "val"]
Box = tuple[int, float, float, float, float]
"""Drug index, then x1, y1, x2, y2 in pixels of the scene."""

_FACE_PX = 384
"""Longest side of a face as drawn; photos only ever shrink it, or enlarge it by a few percent."""
_ASPECT = {"round": 1.0, "oval": 1.4, "oblong": 1.65, "square": 1.0}
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
    extent_x, extent_y = _extent(DRUGS[drug_index], tilt_deg)
    fill = float(rng.uniform(0.74, 0.96))
    long_px = fill * min(width / extent_x, height / extent_y)
    canvas, light = _ground(rng, width, height)
    slack_x = (width - long_px * extent_x) / 2
    slack_y = (height - long_px * extent_y) / 2
    centre_x = width / 2 + slack_x * float(rng.uniform(-0.6, 0.6))
    centre_y = height / 2 + slack_y * float(rng.uniform(-0.6, 0.6))
    _put_pill(canvas, rng, drug_index, long_px, tilt_deg, (centre_x, centre_y), light)
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
        extent_x, extent_y = _extent(DRUGS[drug_index], tilt_deg)
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
            box = _put_pill(canvas, rng, drug_index, long_px, tilt_deg, (x, y), light)
            boxes.append((drug_index, *box))
            break
    return _expose(canvas, rng), boxes


def render_crop(drug_index: int, seed: int, *, split: Split = "train") -> Image.Image:
    """One pill cut out along its box, as the detector's crops look. RGB, 44 to 300 px long."""
    rng = _generator(split, "crop", drug_index, seed)
    long_px = float(np.exp(rng.uniform(math.log(44), math.log(280))))
    tilt_deg = float(rng.uniform(-_TILT_MAX_DEG, _TILT_MAX_DEG))
    extent_x, extent_y = _extent(DRUGS[drug_index], tilt_deg)
    width, height = math.ceil(long_px * extent_x * 1.2) + 6, math.ceil(long_px * extent_y * 1.2) + 6
    canvas, light = _ground(rng, width, height)
    box = _put_pill(canvas, rng, drug_index, long_px, tilt_deg, (width / 2, height / 2), light)
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


def _extent(drug: Drug, tilt_deg: float) -> tuple[float, float]:
    """Width and height of the tilted pill's bounding box, for a longest side of 1."""
    c, s = abs(math.cos(math.radians(tilt_deg))), abs(math.sin(math.radians(tilt_deg)))
    short = 1 / _ASPECT[drug.shape]
    if drug.shape in ("round", "oval"):
        return math.hypot(c, short * s), math.hypot(s, short * c)
    radius = _corner(drug.shape, short)
    inner_x, inner_y = 1 - 2 * radius, short - 2 * radius
    return inner_x * c + inner_y * s + 2 * radius, inner_x * s + inner_y * c + 2 * radius


def _corner(shape: str, short: float) -> float:
    """Corner radius, for a longest side of 1."""
    return short / 2 if shape == "oblong" else 0.22


@functools.cache
def _face(drug_index: int) -> Image.Image:
    """A drug's face seen from above, 4 x 8 bits: mask, imprint, slope along x and along y.

    "CMYK" is Pillow's only mode of four plain channels: RGBA is resized with its colours
    premultiplied, which would bend the slopes at the rim.
    """
    drug = DRUGS[drug_index]
    width, height = _FACE_PX, round(_FACE_PX / _ASPECT[drug.shape])
    # Drawn at twice the size: ImageDraw has no antialiasing of its own.
    mask = Image.new("L", (2 * width, 2 * height))
    pen = ImageDraw.Draw(mask)
    whole = (0, 0, 2 * width - 1, 2 * height - 1)
    if drug.shape in ("round", "oval"):
        pen.ellipse(whole, fill=255)
    else:
        corner = _corner(drug.shape, height / width)
        pen.rounded_rectangle(whole, radius=round(corner * 2 * width), fill=255)
    mask = mask.reduce(2)
    imprint = _imprint(drug, width, height)

    # A dome from the mask's distance-like blur, with the imprint pressed into it.
    pad = _FACE_PX // 6
    raised = Image.new("L", (width + 2 * pad, height + 2 * pad))
    raised.paste(mask, (pad, pad))
    dome = raised.filter(ImageFilter.GaussianBlur(_FACE_PX / 14))
    dome = dome.crop((pad, pad, pad + width, pad + height))
    pressed = imprint.filter(ImageFilter.GaussianBlur(_FACE_PX / 110))
    depth = np.asarray(dome, np.float32) * 0.55 - np.asarray(pressed, np.float32) * 0.16
    slope_y, slope_x = np.gradient(depth)
    slopes = [
        Image.fromarray(np.clip(128 + slope * 22, 0, 255).astype(np.uint8))
        for slope in (slope_x, slope_y)
    ]
    return Image.merge("CMYK", (mask, imprint, *slopes))


def _imprint(drug: Drug, width: int, height: int) -> Image.Image:
    """The characters and the score line, 8 bits, [height, width]."""
    layer = Image.new("L", (width, height))
    pen = ImageDraw.Draw(layer)
    parts = list(drug.imprint) if drug.scored else [drug.imprint]
    # Kept to the middle: a centre crop of a long pill's box loses both ends.
    room = width * (0.30 if drug.scored else 0.58)
    size = height * 0.62
    while _text_width(max(parts, key=len), size) > room:
        size *= 0.96
    font = ImageFont.load_default(size)
    offsets = (-0.2, 0.2) if drug.scored else (0.0,)
    for part, offset in zip(parts, offsets, strict=True):
        pen.text(
            (width * (0.5 + offset), height / 2),
            part,
            font=font,
            fill=255,
            anchor="mm",
            stroke_width=size * 0.02,
        )
    if drug.scored:
        half = width * 0.012
        pen.rectangle((width / 2 - half, height * 0.06, width / 2 + half, height * 0.94), fill=255)
    return layer


def _text_width(text: str, size: float) -> float:
    left, _, right, _ = ImageFont.load_default(size).getbbox(text)
    return right - left


def _put_pill(
    canvas: NDArray[np.float32],
    rng: np.random.Generator,
    drug_index: int,
    long_px: float,
    tilt_deg: float,
    centre: tuple[float, float],
    light: tuple[float, float],
) -> tuple[float, float, float, float]:
    """Draws one pill and its shadow into canvas [H, W, 3] in place; its box in pixels."""
    drug = DRUGS[drug_index]
    face = _face(drug_index)
    # The tile holds the pill at any tilt; one affine map shrinks, tilts and shifts at once, and
    # the face is shrunk to near its final size before, because that map does not antialias.
    shrink = max(1, round(_FACE_PX / (1.5 * long_px)))
    small = face.reduce(shrink) if shrink > 1 else face
    scale = small.width / long_px
    side = math.ceil(long_px * 1.45) + 4
    left, top = round(centre[0] - side / 2), round(centre[1] - side / 2)
    inside_x, inside_y = centre[0] - left, centre[1] - top
    c, s = math.cos(math.radians(tilt_deg)), math.sin(math.radians(tilt_deg))
    a, b = scale * c, scale * s
    affine = (
        a,
        b,
        small.width / 2 - a * inside_x - b * inside_y,
        -b,
        a,
        small.height / 2 + b * inside_x - a * inside_y,
    )
    tile = small.transform(
        (side, side),
        Image.Transform.AFFINE,
        affine,
        Image.Resampling.BICUBIC,
        fillcolor=(0, 0, 128, 128),
    )

    # Only what lies on the canvas is drawn; a shadow may leave it, a pill in a scene never does.
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    view = canvas[y1:y2, x1:x2]
    cut = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))

    reach = long_px * float(rng.uniform(0.01, 0.04))
    shadow = tile.getchannel(0).filter(ImageFilter.GaussianBlur(0.6 + reach))
    dark = float(rng.uniform(0.25, 0.55)) / 255
    fall = np.asarray(shadow, np.float32)
    fall = np.roll(fall, (round(-light[1] * reach), round(-light[0] * reach)), (0, 1))[cut]
    view *= 1 - dark * fall[..., None]

    layers = np.asarray(tile, np.float32)[cut]
    mask = layers[..., 0:1] / 255
    sunk = layers[..., 1] / 255
    slope_x, slope_y = (layers[..., 2] - 128) / 128, (layers[..., 3] - 128) / 128
    # Slopes are those of the untilted face: turn the light the other way instead.
    light_x, light_y = light[0] * c + light[1] * s, -light[0] * s + light[1] * c
    shade = 1 - float(rng.uniform(0.5, 0.8)) * (slope_x * light_x + slope_y * light_y)
    shade *= 1 - float(rng.uniform(0.10, 0.42)) * sunk
    tint = rng.uniform(0.93, 1.05, size=3).astype(np.float32)
    colour = _colour(drug, cut, (inside_x, inside_y), (c, s)) * tint
    view += mask * (colour * shade[..., None] - view)

    return _bounds(drug, long_px, tilt_deg, centre)


def _bounds(
    drug: Drug, long_px: float, tilt_deg: float, centre: tuple[float, float]
) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 in pixels, exact: computed from the outline and not read off the mask."""
    extent_x, extent_y = _extent(drug, tilt_deg)
    half_x, half_y = long_px * extent_x / 2, long_px * extent_y / 2
    return centre[0] - half_x, centre[1] - half_y, centre[0] + half_x, centre[1] + half_y


def _colour(
    drug: Drug,
    cut: tuple[slice, slice],
    inside: tuple[float, float],
    turn: tuple[float, float],
) -> NDArray[np.float32]:
    """Base colour: [3], or [h, w, 3] for a pill of two halves that meet across its length."""
    first, _, second = drug.colour.partition("/")
    colour = np.asarray(COLOURS[first], np.float32)
    if not second:
        return colour
    y = np.arange(cut[0].start, cut[0].stop, dtype=np.float32)[:, None] + 0.5 - inside[1]
    x = np.arange(cut[1].start, cut[1].stop, dtype=np.float32)[None, :] + 0.5 - inside[0]
    along = np.clip(x * turn[0] + y * turn[1] + 0.5, 0, 1)[..., None]
    return colour + along * (np.asarray(COLOURS[second], np.float32) - colour)


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
