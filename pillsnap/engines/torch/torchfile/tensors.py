"""Tensors of a checkpoint, made over the values in the file and never over more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillsnap.engines.torch.torchfile.budget import Budget, Unreadable
from pillsnap.engines.torch.torchfile.objects import Function, StandIn, StorageType

if TYPE_CHECKING:
    import torch

# A tensor costs about as much memory as so many opcodes.
_STEPS = 20

_STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
}


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """Values in the file: uint8, [bytes], and the dtype that its type says."""

    raw: torch.Tensor
    dtype: torch.dtype | None


def storage_type(module: str, name: str) -> StorageType | None:
    """The type of storages that a global names, on whatever device they were saved."""
    import torch

    if module not in ("torch", "torch.cuda", "torch.storage"):
        return None
    if name == "UntypedStorage":
        return StorageType(None)
    return StorageType(getattr(torch, _STORAGES[name])) if name in _STORAGES else None


class Tensors:
    """The functions that rebuild tensors, in place of torch's.

    Args:
        read: key of a storage, its size in bytes and in one value -> its bytes, uint8 [bytes].
    """

    def __init__(self, read: Callable[[str, int, int], torch.Tensor], budget: Budget) -> None:
        self._read, self._budget = read, budget
        self._storages: dict[str, torch.Tensor] = {}

    def load(self, key: Any) -> object:
        """The storage of a persistent id: ("storage", type, key, location, values, views)."""
        kind, dtype, name, _, count, *views = key
        if kind != "storage" or type(count) is not int or count < 0 or any(views):
            raise ValueError("no storage")
        if not isinstance(dtype, StorageType):
            return StandIn("a storage")
        width = dtype.dtype.itemsize if dtype.dtype is not None else 1
        name = str(name)
        if name not in self._storages:
            raw = self._read(name, count * width, width)
            self._storages[name] = raw
            self._budget.stored += raw.numel()
        return Storage(self._storages[name], dtype.dtype)

    def functions(self) -> dict[str, Callable[..., object]]:
        """By the dotted names of torch's functions."""
        return {
            "torch._utils._rebuild_tensor": self.rebuild,
            "torch._utils._rebuild_tensor_v2": self.rebuild,
            "torch._utils._rebuild_tensor_v3": self.rebuild,
            "torch._utils._rebuild_parameter": self.parameter,
            "torch._utils._rebuild_parameter_with_state": self.parameter,
            "torch._utils._rebuild_device_tensor_from_cpu_tensor": lambda tensor, *_: tensor,
            "torch._tensor._rebuild_from_type_v2": self.rebuild_by,
            "torch.nn.parameter.Parameter": self.parameter,
        }

    def rebuild(self, storage: object, offset: Any, size: Any, stride: Any, *rest: Any) -> object:
        """A view of a storage; hooks and metadata of the pickle are left out. Where the storage is
        of raw bytes, the dtype stands behind the hooks."""
        import torch

        self._budget.spend(_STEPS)
        if not isinstance(storage, Storage):
            return StandIn("torch.Tensor")
        dtype = storage.dtype or next(iter(rest[2:3]), None)
        if not isinstance(dtype, torch.dtype):
            raise TypeError("a tensor without a dtype")
        places = (offset, *size, *stride)
        if len(size) != len(stride) or any(
            type(place) is not int or not 0 <= place < 2**63 for place in places
        ):
            raise ValueError("a tensor of no possible shape")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count and (last + 1) * dtype.itemsize > storage.raw.numel():
            raise Unreadable(
                "a tensor of the checkpoint reaches beyond its values",
                f"shape {list(size)} over {storage.raw.numel():,} bytes",
            )
        self._budget.viewed += count * dtype.itemsize
        view = torch.empty(0, dtype=dtype)
        return view.set_(storage.raw.untyped_storage(), offset, tuple(size), tuple(stride))

    def rebuild_by(self, function: Any, _: object, arguments: Any, *__: object) -> object:
        """A tensor with attributes, or of a class derived from Tensor: the tensor alone."""
        return function.call(*arguments) if isinstance(function, Function) else StandIn("a tensor")

    def parameter(self, data: object = None, requires_grad: object = True, *_: object) -> object:
        """A parameter; hooks and attributes of the pickle are left out."""
        import torch

        self._budget.spend(_STEPS)
        if not isinstance(data, torch.Tensor):
            return StandIn("torch.nn.parameter.Parameter")
        grad = bool(requires_grad) and data.is_floating_point()
        return torch.nn.Parameter(data, requires_grad=grad)
