"""What the pickle machine may make of a checkpoint: data, tensors, layers; nothing is called."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pillsnap.engines.torch.torchfile.budget import Budget
from pillsnap.engines.torch.torchfile.layers import fill_layer
from pillsnap.engines.torch.torchfile.machine import require_key
from pillsnap.engines.torch.torchfile.names import is_data, is_layer, present_name
from pillsnap.engines.torch.torchfile.objects import (
    Function,
    Layer,
    NumberType,
    OwnForward,
    StandIn,
    numpy_number,
    numpy_type,
)
from pillsnap.engines.torch.torchfile.tensors import Tensors, storage_type

if TYPE_CHECKING:
    import torch

# A module with its dicts costs about as much memory as so many opcodes.
_STEPS = 20


class CheckpointMaker:
    """Makes what stands in a checkpoint, and notes what it refuses.

    Args:
        layers: class by dotted name, for the layers that are made; others are stand-ins.

    Attributes:
        refused: dotted names that are not on the list, or of classes that were to be called.
    """

    def __init__(
        self, tensors: Tensors, layers: Mapping[str, type[torch.nn.Module]], budget: Budget
    ) -> None:
        self._tensors, self._layers, self._budget = tensors, layers, budget
        self._functions: dict[str, Callable[..., object]] = {
            **tensors.functions(),
            "_codecs.encode": self._encode,
            "builtins.frozenset": self._set,
            "builtins.getattr": _attribute,
            "builtins.set": self._set,
            "collections.OrderedDict": self._ordered,
            "numpy.core.multiarray.scalar": numpy_number,
            "numpy.dtype": numpy_type,
            "torch.Size": tuple,
        }
        self.refused: dict[str, None] = {}

    def find(self, module: str, name: str) -> object:
        """A value, function, layer or stand-in; a name that is not on the list is noted."""
        import torch

        module, name = present_name(module, name)
        full = f"{module}.{name}"
        if full in self._functions:
            return Function(full, self._functions[full])
        if full in self._layers:
            return Layer(full, self._layers[full])
        value = getattr(torch, name, None) if module == "torch" else None
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
            return value
        found = storage_type(module, name)
        if found is not None:
            return found
        # Data first: ultralytics 8.0 keeps its arguments among its layers.
        if not is_data(module, name):
            if is_layer(module, name):
                return StandIn(full, called=False)
            self.refused[full] = None
        return StandIn(full)

    def call(self, target: object, arguments: Any) -> object:
        """One of our functions, or another stand-in; a call of a layer's class is noted."""
        if isinstance(target, Function):
            return target.call(*arguments)
        if isinstance(target, Layer) or (isinstance(target, StandIn) and not target.called):
            self.refused[f"{target.name}(…)"] = None
            return StandIn(target.name)
        if isinstance(target, StandIn):
            return StandIn(target.name, state=arguments)
        raise TypeError("a call of what is no global")

    def make(self, target: object, arguments: Any) -> object:
        """A layer without its constructor, or what a call gives."""
        if isinstance(target, Layer) and not arguments:
            self._budget.spend(_STEPS)
            return target.layer.__new__(target.layer)
        if isinstance(target, StandIn) and not arguments:
            return StandIn(target.name, called=target.called)
        return self.call(target, arguments)

    def build(self, target: object, state: object) -> None:
        """Fill a layer; a stand-in keeps the state, anything else needs none."""
        import torch

        if isinstance(target, torch.nn.Module):
            fill_layer(target, state)
        elif isinstance(target, StandIn):
            target.state = state
        elif isinstance(target, NumberType) and isinstance(state, tuple):
            target.order = ">" if state[1:2] == (">",) else "<"

    def load(self, key: object) -> object:
        """The storage of a persistent id."""
        return self._tensors.load(key)

    def _encode(self, text: str, encoding: str = "latin1", *_: object) -> bytes:
        self._budget.spend(len(text) // 32)
        return text.encode("latin-1" if encoding == "latin1" else "ascii")

    def _set(self, items: Any = ()) -> set[object]:
        self._budget.spend(len(items))
        for item in items:
            require_key(item)
        return set(items)

    def _ordered(self, pairs: Any = ()) -> OrderedDict[object, object]:
        self._budget.spend(len(pairs))
        for key, _ in pairs:
            require_key(key)
        return OrderedDict(pairs)


class NameCollector:
    """Notes the globals of a pickle; makes nothing."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find(self, module: str, name: str) -> object:
        """A stand-in for anything."""
        self.names.add(f"{module}.{name}")
        return StandIn(name)

    def call(self, target: object, arguments: Any) -> object:
        """A stand-in."""
        return StandIn("")

    make = call

    def build(self, target: object, state: object) -> None:
        """Nothing."""

    def load(self, key: object) -> object:
        """A stand-in."""
        return StandIn("")


def _attribute(target: object, name: object, *_: object) -> object:
    # Ultralytics' fused layers have their own forward_fuse as forward.
    return OwnForward(target) if name == "forward_fuse" else StandIn("builtins.getattr")
