"""The samples of a cell that differ most: images with the boxes of both engines, or their most
probable classes side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pillsnap.compare.matching import match_boxes
from pillsnap.compare.records import Records, unragged_rows
from pillsnap.pipeline.preprocess import Pixels
from pillsnap.report.evidence import Evidence

# Longest side of a shown image in pixels, and the most bytes of its file.
SIDE, MOST_BYTES = 480, 24_000

# Columns of an error by sample, in words.
_ERRORS = {
    "prob_err_max": "probability off by",
    "box_err_px": "box edge off by px",
    "score_err": "score off by",
}


@dataclass(frozen=True)
class Box:
    """In units of the shown image; `alone` where the other engine has none that fits."""

    side: str
    x: float
    y: float
    width: float
    height: float
    score: float
    alone: bool


@dataclass
class Shown:
    """A sample as the page shows it.

    Attributes:
        image: as a data: URL; None where it is not there any more.
        width, height: of the shown image.
        guesses: of the reference and of the candidate, name and probability of each class.
    """

    id: str
    errors: list[tuple[str, float]]
    label: str | None = None
    image: str | None = None
    width: int = 0
    height: int = 0
    boxes: list[Box] = field(default_factory=list)
    guesses: list[tuple[tuple[str, float], tuple[str, float]]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What its image shows, for those who do not see it."""
        return f"{self.id}, {self.counts}" if self.boxes else self.id

    @property
    def counts(self) -> str:
        """Of boxes, in words."""
        first, second = (sum(box.side == side for box in self.boxes) for side in SIDES)
        alone = sum(box.alone for box in self.boxes)
        return f"boxes: {first} reference, {second} candidate, {alone} without a partner"


SIDES = ("reference", "candidate")


def worst_samples(
    cell: Mapping[str, Any], records: Records, evidence: Evidence, most: int
) -> list[Shown]:
    """The first of a cell's worst samples, as far as the records have them."""
    names = records["id"]
    found = np.flatnonzero(np.isin(names, cell["worst_samples"][:most]))
    rows = dict(zip(names[found].tolist(), found.tolist(), strict=True))
    ids = [name for name in cell["worst_samples"][:most] if name in rows]
    contents = records.take("content", [rows[name] for name in ids])
    images = evidence.images(cell["stage"], dict(zip(ids, map(bytes, contents), strict=True)))
    return [_show(name, rows[name], records, evidence, cell["stage"], images) for name in ids]


def _show(
    name: str,
    row: int,
    records: Records,
    evidence: Evidence,
    stage: str,
    images: Mapping[str, Pixels],
) -> Shown:
    errors = [
        (words, float(np.max(records.take(column, [row])[0])))
        for column, words in _ERRORS.items()
        if column in records
    ]
    shown = Shown(name, errors)
    scale = 1.0
    if name in images:
        shown.image, shown.width, shown.height = encode(images[name])
        scale = shown.width / images[name].shape[1]
    if "ref_boxes" in records:
        shown.boxes = _boxes(records, row, scale)
    if "ref_classes" in records:
        names = evidence.class_names(stage)
        sides = [
            [
                (names.get(index, f"class {index}"), probability)
                for index, probability in zip(
                    records.take(f"{side}_classes", [row])[0],
                    records.take(f"{side}_probs", [row])[0],
                    strict=True,
                )
            ]
            for side in ("ref", "cand")
        ]
        shown.guesses = list(zip(*sides, strict=True))
        (label,) = records.take("label", [row])
        shown.label = names.get(label, f"class {label}") if label >= 0 else None
    return shown


def _boxes(records: Records, row: int, scale: float) -> list[Box]:
    sides = [next(unragged_rows(records, f"{side}_boxes", [row])) for side in ("ref", "cand")]
    pairs = match_boxes(*sides).pairs
    return [
        Box(
            side,
            x=float(x1) * scale,
            y=float(y1) * scale,
            width=max(0.0, float(x2 - x1)) * scale,
            height=max(0.0, float(y2 - y1)) * scale,
            score=float(score),
            alone=index not in paired,
        )
        for side, rows, paired in zip(SIDES, sides, pairs.T.tolist(), strict=True)
        for index, (x1, y1, x2, y2, score, _) in enumerate(rows)
    ]


def encode(pixels: Pixels) -> tuple[str, int, int]:
    """A small JPEG of RGB uint8 [H, W, 3] as a data: URL, its width and its height."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    data = b""
    for quality in (85, 70, 50, 30, 10):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        data = file.getvalue()
        if len(data) <= MOST_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", *image.size
