"""Draws one pill and its shadow; knows its outline exactly, for the box around it."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from pillsnap.demo.drugs import COLOURS, DRUGS, Drug

_FACE_PX = 384
"""Longest side of a face as drawn; photos only ever shrink it, or enlarge it by a few percent."""
_ASPECT = {"round": 1.0, "oval": 1.4, "oblong": 1.65, "square": 1.0}


def extent(drug: Drug, tilt_deg: float) -> tuple[float, float]:
    """Width and height of the tilted pill's bounding box, for a longest side of 1."""
    c, s = abs(math.cos(math.radians(tilt_deg))), abs(math.sin(math.radians(tilt_deg)))
    short = 1 / _ASPECT[drug.shape]
    if drug.shape in ("round", "oval"):
        return math.hypot(c, short * s), math.hypot(s, short * c)
    radius = _corner(drug.shape, short)
    inner_x, inner_y = 1 - 2 * radius, short - 2 * radius
    return inner_x * c + inner_y * s + 2 * radius, inner_x * s + inner_y * c + 2 * radius


def put_pill(
    canvas: NDArray[np.float32],
    rng: np.random.Generator,
    drug_index: int,
    long_px: float,
    tilt_deg: float,
    centre: tuple[float, float],
    light: tuple[float, float],
) -> tuple[float, float, float, float]:
    """Draws one pill and its shadow into canvas [H, W, 3] in place; its box in pixels.

    centre is x and y in pixels; light is the unit vector x, y that points to the lamp.
    """
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
    extent_x, extent_y = extent(drug, tilt_deg)
    half_x, half_y = long_px * extent_x / 2, long_px * extent_y / 2
    return centre[0] - half_x, centre[1] - half_y, centre[0] + half_x, centre[1] + half_y


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
