"""Engines: what a candidate (or the reference) runs on.

A backend opens loaded models for a request; `register` adds one, and `--engine` accepts its name.
Only the backend that is asked for imports its library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pillsnap.config import Config
from pillsnap.errors import ConfigError
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


@dataclass
class _Registry:
    loaders: dict[str, Callable[[], Backend]] = field(default_factory=dict)


_registry = _Registry()


def register(name: str, loader: Callable[[], Backend]) -> None:
    """Add an engine; `loader` is called when the engine is first used, and may import then."""
    _registry.loaders[name] = loader


def engine_names() -> tuple[str, ...]:
    """Names that `--engine` takes, in order of registration."""
    return tuple(_registry.loaders)


def backend(name: str) -> Backend:
    """The backend of that name; raises ConfigError with the choices."""
    if name not in _registry.loaders:
        raise ConfigError(
            "there is no such engine",
            where="--engine",
            got=name,
            expected=", ".join(engine_names()),
        )
    return _registry.loaders[name]()


def _onnx() -> Backend:
    from pillsnap.engines.onnx_engine import OnnxBackend

    return OnnxBackend()


def _torch() -> Backend:
    from pillsnap.engines.torch_engine import TorchBackend

    return TorchBackend()


register("onnx", _onnx)
# TensorRT is ONNX Runtime with another provider, which the cell names.
register("tensorrt", _onnx)
register("torch", _torch)
