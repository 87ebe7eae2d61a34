"""Proof that an exported graph is what was asked for, before anybody sees the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pillsnap.config.settings import Config, Shape
from pillsnap.core.alternatives import ONNXRUNTIME
from pillsnap.core.errors import ExportError, first_line
from pillsnap.engines.onnxruntime.sessions import open_in_memory
from pillsnap.export.exporters import Traced
from pillsnap.export.forms import FORMS, same_shape
from pillsnap.export.reading import opset_of


def prove(traced: Traced, config: Config, stage: str, checkpoint: Path) -> None:
    """Check a graph's form and opset, and run it at other batch and image sizes.

    Raises:
        ExportError: the checker refuses it, its opset is another, or it does not run at a size.
        EngineError: ONNX Runtime is not installed, or not in a version that is known.
    """
    import onnx

    ONNXRUNTIME.require()
    model = traced.model
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # checker and shape inference have an exception each
        raise ExportError(
            "the exporter wrote a file that onnx.checker refuses",
            where=checkpoint,
            got=first_line(error),
            hint="try another opset (OPSET=18)",
        ) from error
    found, asked = opset_of(model), config.export.opset
    if found != asked:
        raise ExportError(
            "the exporter wrote another opset than asked",
            where=checkpoint,
            got=found,
            expected=asked,
            hint=f"set export.opset (or OPSET) to {found}",
        )
    try:
        session = open_in_memory(model)
    except Exception as error:  # ORT's exceptions share no base
        raise ExportError(
            "ONNX Runtime cannot load the exported model",
            where=checkpoint,
            got=first_line(error),
            hint="try another opset (OPSET=18)",
        ) from error
    form, shapes = FORMS[stage], [config.input_shape(stage)]
    if config.export.dynamic_axes:
        shapes = form.trials(shapes[0], traced.strides)
    for shape in shapes:
        wanted = form.shape(shape, getattr(config, stage).num_classes, traced.strides)
        image = np.full(shape, 0.5, np.float32)
        try:
            output = session.run(None, {session.get_inputs()[0].name: image})[0]
        except Exception as error:  # as above
            raise _not_dynamic(shape, wanted, first_line(error), checkpoint) from error
        if not same_shape(output.shape, wanted):
            raise _not_dynamic(shape, wanted, f"output {list(output.shape)}", checkpoint)


def _not_dynamic(
    shape: Shape, wanted: tuple[int | None, ...], got: str, checkpoint: Path
) -> ExportError:
    return ExportError(
        f"the exported model does not work for an input of {list(shape)}",
        where=checkpoint,
        got=got,
        expected=f"output {list(wanted)}",
        hint="the model may fix a size while it is traced: set export.dynamic_axes: false",
    )
