"""Engines: what a candidate (or the reference) runs on.

A backend opens loaded models for a request; `register` adds one, and `--engine` accepts its name.
Only the backend that is asked for imports its library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pillsnap.core.errors import ConfigError
from pillsnap.engines.protocol import Backend, Batch, Engine, Reference, Request, Transform

__all__ = [
    "Backend",
    "Batch",
    "Engine",
    "Reference",
    "Request",
    "Transform",
    "backend",
    "engine_names",
    "register",
]


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
    from pillsnap.engines.onnxruntime.engine import OnnxBackend

    return OnnxBackend()


def _torch() -> Backend:
    from pillsnap.engines.torch.engine import TorchBackend

    return TorchBackend()


register("onnx", _onnx)
# TensorRT is ONNX Runtime with another provider, which the cell names.
register("tensorrt", _onnx)
register("torch", _torch)
