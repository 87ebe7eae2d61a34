"""Tensors that stand in an .onnx file, and what is hashed of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class Constant:
    """An initializer, or what a Constant node holds.

    Attributes:
        kind: onnx's name of its type, in lower case.
        values: of any shape.
    """

    name: str
    kind: str
    values: NDArray[Any]

    @property
    def form(self) -> str:
        return f"{self.kind} {list(self.values.shape)}"

    @property
    def digest(self) -> str:
        """Of type, shape and bits."""
        strings = self.values.dtype == object
        bits = repr(self.values.tolist()).encode() if strings else self.values.tobytes()
        return digest_of(self.form, hashlib.sha256(bits).hexdigest())


def of_tensor(tensor: onnx.TensorProto, name: str) -> Constant:
    """A tensor whose values stand in it, not in another file."""
    from onnx import TensorProto, numpy_helper

    kind = TensorProto.DataType.Name(tensor.data_type).lower()
    return Constant(name, kind, numpy_helper.to_array(tensor))


def of_attribute(attribute: onnx.AttributeProto, name: str) -> Constant:
    """What a Constant node holds that is not sparse."""
    from onnx import TensorProto, helper

    value = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        return of_tensor(value, name)
    kind = {"value_float": "float", "value_int": "int64"}.get(attribute.name.rstrip("s"), "string")
    types: dict[str, Any] = {"float": np.float32, "int64": np.int64, "string": object}
    return Constant(name, kind, np.asarray(value, types[kind]))


def digest_of(*parts: object) -> str:
    """SHA-256 of plain builtins, in hex."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
