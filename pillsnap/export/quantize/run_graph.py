"""Running a graph in memory on the CPU, the same way every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import ExportError, first_line
from pillsnap.engines import Batch
from pillsnap.engines.onnxruntime.sessions import open_in_memory

if TYPE_CHECKING:
    import onnx
    import onnxruntime


def opened(model: onnx.ModelProto) -> Callable[[Batch], list[NDArray[Any]]]:
    """A function that runs a model on float32 [N,3,H,W] and returns all its outputs, see `fed`.

    Raises:
        ExportError: from the function, when the images are not of the model's size.
    """
    session = open_in_memory(model)

    def run(batch: Batch) -> list[NDArray[Any]]:
        feed = fed(session, batch)
        try:
            outputs: list[NDArray[Any]] = session.run(None, feed)
        except Exception as error:  # ORT's exceptions share no base
            first = session.get_inputs()[0]
            raise ExportError(
                "the model cannot run on these images",
                where=f"input {first.name} {first.shape}",
                got=f"{list(feed[first.name].shape)}: {first_line(error)}",
                hint="preprocess them as the model's export.input_shape says",
            ) from error
        return outputs

    return run


def fed(session: onnxruntime.InferenceSession, batch: Batch) -> dict[str, Batch]:
    """The feed of a model's one input; a fixed batch size is filled by repeating the images."""
    first = session.get_inputs()[0]
    size = first.shape[0]
    if isinstance(size, int):
        batch = np.resize(batch, (size, *batch.shape[1:]))
    return {first.name: batch}
