"""What an engine is: the types that every engine, and everything that runs one, speak in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config
from pillsnap.core.arraycache import ArrayCache
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform

Batch = NDArray[np.float32]
Transform = ClassifyTransform | LetterboxTransform


@dataclass(frozen=True)
class Request:
    """How a model is to be opened; the cache spares a reference that is known already. A detector's
    reference is of its one-to-many head, unless `one_to_one`."""

    config: Config
    cell: Cell
    threads: int
    cache: ArrayCache | None = None
    one_to_one: bool = False


class ModelFile(Protocol):
    """The file that is verified; which one it is, is not the engine's to decide."""

    @property
    def path(self) -> Path: ...

    @property
    def sha256(self) -> str: ...

    def content(self) -> bytes | Path:
        """What to load: the bytes that were looked at; the path where weights lie beside it."""


FindFile = Callable[[], ModelFile]
"""Finds the file that a candidate is, or makes it; raises PillsnapError."""


class Engine(Protocol):
    """A loaded model.

    `info` holds what the report says of it beside its file, as plain builtins. `run` takes
    [N,3,H,W] and returns classification [N,C] logits or detection [N,A,6] boxes
    (x1,y1,x2,y2,conf,class_id; input px). A detection reference adds a seventh column: the gap
    between its best two class scores.
    """

    info: dict[str, Any]

    def run(self, batch: Batch) -> Batch: ...


@runtime_checkable
class RunsAtOtherSizes(Protocol):
    """An engine that may be run at other sizes than are compared.

    Attributes:
        input_shape: [N,C,H,W] as the model declares it: a number is fixed, a name or None is free;
            None as a whole where it is not to be tried.
    """

    @property
    def input_shape(self) -> tuple[int | str | None, ...] | None: ...


@dataclass(frozen=True)
class Reference:
    """The trained model, and what must be known of it to compare anything with it.

    Attributes:
        strides: of a detector, pixels per cell of each head, in the order of its boxes; () where
            these are in no cells.
        key: SHA-256 of all that its answer to an image depends on, the image and its batch aside;
            None for one whose answers are not to be remembered.
        exact: the same model in float64: float32 [N,3,H,W] to the engine's outputs in float64;
            None for one that cannot be run so.
        class_names: in order; empty where they are not known.
    """

    engine: Engine
    transform: Transform
    strides: tuple[int, ...] = ()
    key: str | None = None
    exact: Callable[[Batch], NDArray[np.float64]] | None = None
    class_names: tuple[str, ...] = ()
