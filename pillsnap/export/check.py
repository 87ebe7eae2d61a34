"""Proof that an exported graph is what was asked for, before anybody sees the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pillsnap.config.settings import Config
from pillsnap.core.alternatives import ONNXRUNTIME
from pillsnap.core.errors import ExportError, first_line
from pillsnap.engines.onnxruntime.inmemory import open_in_memory
from pillsnap.export.exporters import Traced
from pillsnap.export.forms import FORMS
from pillsnap.export.reading import opset_of

if TYPE_CHECKING:
    import onnx
    import onnxruntime

# The proof is about shapes, not speed; other processes work beside it.
_THREADS = 2


def prove(traced: Traced, config: Config, stage: str, checkpoint: Path) -> None:
    """Check a graph's form and opset, and run it at other batch and image sizes.

    Raises:
        ExportError: the checker refuses it, its opset is another, or it does not run at a size.
        EngineError: ONNX Runtime is not installed, or not in a version that is known.
    """
    import onnx

    ONNXRUNTIME.require()

    try:
        onnx.checker.check_model(traced.model, full_check=True)
    except Exception as error:  # checker and shape inference have an exception each
        raise ExportError(
            "the exporter wrote a file that onnx.checker refuses",
            where=checkpoint,
            got=first_line(error),
            hint="try another opset (OPSET=18)",
        ) from error
    _require_opset(traced.model, config.export.opset, checkpoint)
    session = _session(traced.model, checkpoint)
    for shape in _trials(traced, config, stage):
        _require_output(session, shape, _wanted(traced, config, stage, shape), checkpoint)


def _require_opset(model: onnx.ModelProto, asked: int, checkpoint: Path) -> None:
    if opset_of(model) != asked:
        raise ExportError(
            "the exporter wrote another opset than asked",
            where=checkpoint,
            got=opset_of(model),
            expected=asked,
            hint=f"set export.opset (or OPSET) to {opset_of(model)}",
        )


def _trials(traced: Traced, config: Config, stage: str) -> list[tuple[int, int, int, int]]:
    """Input shapes to run: the configured one, and if axes are free other batches and sizes."""
    shape = config.input_shape(stage)
    if not config.export.dynamic_axes:
        return [shape]
    return FORMS[stage].trials(shape, traced.strides)


def _wanted(
    traced: Traced, config: Config, stage: str, shape: tuple[int, int, int, int]
) -> tuple[int, ...]:
    return FORMS[stage].shape(shape, getattr(config, stage).num_classes, traced.strides)


def _session(model: onnx.ModelProto, checkpoint: Path) -> onnxruntime.InferenceSession:
    try:
        return open_in_memory(model, _THREADS)
    except Exception as error:  # ORT's exceptions share no base
        raise ExportError(
            "ONNX Runtime cannot load the exported model",
            where=checkpoint,
            got=first_line(error),
            hint="try another opset (OPSET=18)",
        ) from error


def _require_output(
    session: onnxruntime.InferenceSession,
    shape: tuple[int, int, int, int],
    wanted: tuple[int, ...],
    checkpoint: Path,
) -> None:
    image = np.full(shape, 0.5, np.float32)
    try:
        found = session.run(None, {session.get_inputs()[0].name: image})[0].shape
    except Exception as error:  # as above
        reason = first_line(error)
        raise _not_dynamic(shape, wanted, reason, checkpoint) from error
    if found != wanted:
        raise _not_dynamic(shape, wanted, f"output {list(found)}", checkpoint)


def _not_dynamic(
    shape: tuple[int, ...], wanted: tuple[int, ...], got: str, checkpoint: Path
) -> ExportError:
    return ExportError(
        f"the exported model does not work for an input of {list(shape)}",
        where=checkpoint,
        got=got,
        expected=f"output {list(wanted)}",
        hint="the model may fix a size while it is traced: set export.dynamic_axes: false",
    )
