"""Generated images that can be made again from a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pillsnap.engines import Batch, Transform
from pillsnap.pipeline.preprocess import Pixels, preprocess

KINDS = ("flat", "saturated", "noise", "ramp", "checks", "speck")


@dataclass(frozen=True)
class Drawn:
    """An image of one kind: flat (one colour), saturated (every channel 0 or 255), noise, ramp
    (brightness along x), checks (of `level` pixels), speck (one pixel on black)."""

    kind: str
    height: int
    width: int
    level: int
    seed: int

    def pixels(self) -> Pixels:
        rng = np.random.default_rng(self.seed)
        shape = (self.height, self.width, 3)
        if self.kind == "flat":
            return np.full(shape, rng.integers(0, 256, 3), np.uint8)
        if self.kind == "saturated":
            return (255 * rng.integers(0, 2, shape)).astype(np.uint8)
        if self.kind == "noise":
            return rng.integers(0, self.level + 1, shape).astype(np.uint8)
        y, x = np.mgrid[: self.height, : self.width]
        if self.kind == "ramp":
            return np.repeat((x * self.level // self.width)[..., None], 3, axis=2).astype(np.uint8)
        if self.kind == "checks":
            side = 1 + self.level % 32
            return np.repeat((255 * ((y // side + x // side) % 2))[..., None], 3, 2).astype(
                np.uint8
            )
        speck = np.zeros(shape, np.uint8)
        speck[rng.integers(self.height), rng.integers(self.width)] = self.level
        return speck

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# Sides from one pixel up, so that 1:500, the most that is taken, is among the aspects.
sides = st.one_of(st.integers(1, 4), st.integers(5, 200), st.integers(200, 500))

drawn = st.builds(
    Drawn,
    kind=st.sampled_from(KINDS),
    height=sides,
    width=sides,
    level=st.integers(0, 255),
    seed=st.integers(0, 2**32 - 1),
)


def stack(images: Sequence[Drawn], transform: Transform) -> Batch:
    """The batch that these images make, [N,3,H,W]."""
    return np.stack([preprocess(image.pixels(), transform) for image in images])
