"""What an engine is: the types that every engine, and everything that runs one, speak in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pillsnap.config import Config
from pillsnap.matrix import Cell
from pillsnap.preprocess import ClassifyTransform, LetterboxTransform

Batch = NDArray[np.float32]
Transform = ClassifyTransform | LetterboxTransform


@dataclass(frozen=True)
class Request:
    """Everything that decides which model is opened, and how."""

    config: Config
    cell: Cell
    threads: int
    run_dir: Path
    candidate: Path | None = None
    fresh_export: bool = False


class Engine(Protocol):
    """A loaded model.

    `info` holds what the report says of it, as plain builtins. `run` takes [N,3,H,W] and returns
    classification [N,C] logits or detection [N,A,6] boxes (x1,y1,x2,y2,conf,class_id; input px).
    A detection reference adds a seventh column: the gap between its best two class scores.
    """

    info: dict[str, Any]

    def run(self, batch: Batch) -> Batch: ...


@dataclass(frozen=True)
class Reference:
    """The trained model, and what must be known of it to compare anything with it."""

    engine: Engine
    transform: Transform
    strides: tuple[int, ...] = ()


class Backend(Protocol):
    """How one engine opens models. Errors are PillsnapError; MissingCheckpoint and EngineMissing
    skip the item, every other fails it."""

    def open_reference(self, request: Request) -> Reference: ...

    def open_candidate(self, request: Request) -> Engine: ...
