"""The output of an exported model of each stage, and what its metadata claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config, Shape
from pillsnap.core.hashes import canonical_json, sha256_file

# Of detectors with queries in place of cells.
_QUERY_STRIDE = 32


@dataclass(frozen=True)
class Form:
    """The output of a stage's model.

    Attributes:
        words: of its shape, for messages.
        rank: number of its axes.
        columns: size of the last axis, made by arithmetic that ends the graph; None where it is the
            number of classes.
        shape: what an input [N,3,H,W] gives, by number of classes and strides; None for an axis
            that they do not tell.
        trials: other inputs than the configured one that a file with free axes must take.
        means: whether values can be what the columns are said to be, by number of classes.
        claims: metadata beside preprocessing, checkpoint and classes that can do harm: a detector
            does not know the class map, nor a classifier the NMS.
        use: of the claims, those that say what input and output mean.
    """

    words: str
    rank: int
    columns: int | None
    shape: Callable[[Shape, int, Sequence[int]], tuple[int | None, ...]]
    trials: Callable[[Shape, Sequence[int]], list[Shape]]
    means: Callable[[NDArray[np.float32], int], bool]
    claims: Callable[[Config], dict[str, str]]
    use: Callable[[Config], dict[str, str]]

    def fits(self, shape: tuple[int, ...], count: int, classes: int) -> bool:
        """Whether a shape can be the output for so many images."""
        last = classes if self.columns is None else self.columns
        return len(shape) == self.rank and (shape[0], shape[-1]) == (count, last)

    def expected(self, count: int, classes: int) -> str:
        """What `fits` holds a shape to, in words."""
        return f"[{count}, {classes}]" if self.columns is None else f"[{count}, boxes, 6]"


def _boxes(shape: Shape, classes: int, strides: Sequence[int]) -> tuple[int | None, ...]:
    batch, _, height, width = shape
    cells = sum((height // stride) * (width // stride) for stride in strides)
    return batch, cells or None, 6  # of queries there may be any number


def same_shape(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether a shape is that of Form.shape."""
    return len(found) == len(wanted) and all(
        size in (None, each) for each, size in zip(found, wanted, strict=True)
    )


def _other_sizes(shape: Shape, strides: Sequence[int]) -> list[Shape]:
    step = max(strides, default=_QUERY_STRIDE)
    short, long = 2 * step, 3 * step
    _, channels, height, width = shape
    return [(1, channels, height, width), (2, channels, short, long), (3, channels, long, short)]


def _are_boxes(output: NDArray[np.float32], classes: int) -> bool:
    # What is not finite says nothing: whoever takes the boxes refuses it.
    scores, index = output[np.isfinite(output).all(axis=-1)][:, 4:6].T
    wrong = (scores < 0) | (scores > 1) | (index != np.round(index)) | (index < 0)
    return not (wrong | (index >= classes)).any()


def _class_map(config: Config) -> dict[str, str]:
    path = config.data.class_map
    return {} if path is None else {"class_map_sha256": sha256_file(path)}


FORMS = {
    DETECTION: Form(
        "[N,boxes,6]",
        rank=3,
        columns=6,
        shape=_boxes,
        trials=_other_sizes,
        means=_are_boxes,
        claims=lambda config: {"nms": canonical_json(asdict(config.nms))},
        use=lambda config: {},
    ),
    CLASSIFICATION: Form(
        "[N,classes]",
        rank=2,
        columns=None,
        shape=lambda shape, classes, strides: (shape[0], classes),
        trials=lambda shape, strides: [(count, *shape[1:]) for count in (1, 2, 3)],
        means=lambda output, classes: True,
        claims=lambda config: {},
        use=_class_map,
    ),
}
