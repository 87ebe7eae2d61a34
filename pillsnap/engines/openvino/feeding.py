"""Images into a compiled model as its file takes them: in its type, channels first or last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import EngineError
from pillsnap.engines.protocol import Batch

if TYPE_CHECKING:
    import openvino


@dataclass(frozen=True)
class Inputs:
    """The images that a model takes.

    Attributes:
        shape: [N,C,H,W] as the file declares it; None where an axis is free.
        channels_last: whether they are fed as [N,H,W,C].
        dtype: of their values.
    """

    shape: tuple[int | None, ...]
    channels_last: bool
    dtype: np.dtype[Any]

    def feed(self, batch: Batch) -> NDArray[Any]:
        """[N,3,H,W] float32 as the model takes it; EngineError for a batch that the file does not
        declare: OpenVINO itself takes other sizes."""
        if len(self.shape) != 4 or any(
            own not in (None, given) for own, given in zip(self.shape, batch.shape, strict=True)
        ):
            raise EngineError(
                "the model does not take this batch",
                got=str(list(batch.shape)),
                expected=str(["?" if size is None else size for size in self.shape]),
                hint="export with dynamic_axes: true, or set batch_size and input_shape to the "
                "file's",
            )
        if self.dtype.kind != "f":
            raise EngineError(
                "the model takes no images as they are fed",
                got=f"input of {self.dtype}",
                expected="float32, as the preprocessing gives them",
                hint="export it in float32, without preprocessing inside",
            )
        fed = batch.transpose(0, 2, 3, 1) if self.channels_last else batch
        return np.ascontiguousarray(fed, self.dtype)


def inputs_of(model: openvino.Model) -> Inputs:
    """What the first input of a model takes."""
    first = model.input(0)
    shape = tuple(size.get_length() if size.is_static else None for size in first.partial_shape)
    channels_last = len(shape) == 4 and shape[3] == 3 and shape[1] != 3
    if channels_last:
        shape = (shape[0], shape[3], *shape[1:3])
    return Inputs(shape, channels_last, np.dtype(first.element_type.to_dtype()))
