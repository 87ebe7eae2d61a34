"""Images into a session as its file takes them: in its type, channels first or last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import EngineError, first_line
from pillsnap.engines.protocol import Batch

if TYPE_CHECKING:
    import onnxruntime as ort

_TYPES = {"tensor(float16)": np.float16, "tensor(double)": np.float64}


def run_session(session: ort.InferenceSession, batch: Batch) -> list[NDArray[Any]]:
    """Every output of a session for [N,3,H,W] float32, in the file's own types.

    Raises:
        EngineError: ONNX Runtime refused the batch, most often a batch size or image size that the
            file was exported without.
    """
    first = session.get_inputs()[0]
    fed = batch.astype(_TYPES.get(first.type, np.float32), copy=False)
    if _channels_last(first.shape):
        fed = np.ascontiguousarray(fed.transpose(0, 2, 3, 1))
    try:
        outputs: list[NDArray[Any]] = session.run(None, {first.name: fed})
    except Exception as error:  # ORT's exceptions have no common base but this
        raise EngineError(
            "ONNX Runtime cannot run this batch",
            where=f"input {first.name} {first.shape}",
            got=f"{list(fed.shape)}: {first_line(error)}",
            hint=_why_not(first),
        ) from error
    return outputs


def input_shape(session: ort.InferenceSession) -> tuple[int | str | None, ...]:
    """[N,C,H,W] as the file declares its input, also where its channels come last."""
    shape = tuple(session.get_inputs()[0].shape)
    return (shape[0], shape[3], *shape[1:3]) if _channels_last(shape) else shape


def _channels_last(shape: Any) -> bool:
    return len(shape) == 4 and shape[3] == 3 and shape[1] != 3


def _why_not(fed: ort.NodeArg) -> str:
    """What to do about an input that does not take the batch."""
    if fed.type not in ("tensor(float)", *_TYPES):
        return f"its input is {fed.type}, float32 is fed: export it in float32, with half=False"
    return "export with dynamic_axes: true, or set batch_size and input_shape to the file's"
