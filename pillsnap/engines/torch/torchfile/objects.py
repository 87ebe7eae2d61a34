"""What a global of a pickle is read as: a stand-in, a function of ours, a layer, a type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(eq=False, slots=True)
class StandIn:
    """A class or object that is not made: it does nothing and holds what its pickle said of it.

    Attributes:
        name: dotted, of the class.
        state: what the pickle would have filled it with, or called it with; None without.
        called: whether it may be pickled as a call, which a layer of a network never is.
    """

    name: str
    state: object = None
    called: bool = True


def entries_of(value: object) -> Mapping[Any, Any]:
    """The entries of a mapping, or of a stand-in that was filled like one, as a Namespace is; {} of
    anything else."""
    held = value.state if isinstance(value, StandIn) else value
    return held if isinstance(held, Mapping) else {}


@dataclass(frozen=True, eq=False, slots=True)
class Function:
    """A function of ours, in place of the one that the pickle names."""

    name: str
    call: Callable[..., object]


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """A class of torch.nn or ultralytics: objects of it are made without its constructor."""

    name: str
    layer: type[torch.nn.Module]


@dataclass(frozen=True, eq=False, slots=True)
class StorageType:
    """Storages of a dtype; None for raw bytes, whose tensors say it themselves."""

    dtype: torch.dtype | None


@dataclass(frozen=True, eq=False, slots=True)
class OwnForward:
    """A layer's own forward_fuse, which ultralytics' fusing puts in place of its forward."""

    layer: object


@dataclass(eq=False, slots=True)
class NumberType:
    """A NumPy dtype by its code, as "f8"; `order` is ">" where its bytes are big-endian."""

    code: str
    order: str = "<"


def numpy_number(kind: object, raw: object = None, *_: object) -> object:
    """A pickled NumPy scalar as a plain number; a stand-in where it is none."""
    if isinstance(raw, str):  # of Python 2
        raw = raw.encode("latin-1", "replace")
    if (
        isinstance(kind, NumberType)
        and isinstance(raw, bytes)
        and re.fullmatch("[fiu][1248]|b1", kind.code)
        and len(raw) == int(kind.code[1])
        and kind.code != "f1"
    ):
        return np.frombuffer(raw, kind.order + kind.code)[0].item()
    return StandIn("numpy.generic")


def numpy_type(code: object = None, *_: Any) -> object:
    """A pickled NumPy dtype."""
    return NumberType(code) if isinstance(code, str) else StandIn("numpy.dtype")
