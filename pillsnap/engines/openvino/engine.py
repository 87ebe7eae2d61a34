"""OpenVINO: an export compiled for a device, with the proof of what it computes in there.

On processors with bfloat16 the CPU plugin computes in it unless it is told not to, and keeps the
float32 of the file in name alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pillsnap.core.errors import EngineError, first_line
from pillsnap.engines.openvino.proof import Computed, read_computed
from pillsnap.engines.protocol import Batch, FindFile, Request
from pillsnap.engines.timing import Alone, MeasuredAlone, peak_resident_mib, time_run

if TYPE_CHECKING:
    import openvino

# By --provider.
DEVICES = {"auto": "CPU", "cpu": "CPU", "gpu": "GPU", "npu": "NPU"}

# What the plugin is told of a precision; of int8 the file's own nodes tell.
HINTS = {"fp32": "f32", "fp16": "f16", "int8": "f32"}


@dataclass(frozen=True)
class Compiled:
    """A model that runs where and as it was asked to.

    Attributes:
        shape: of its input as the file declares it; None where an axis is free.
        options: OpenVINO's properties, as they read back.
    """

    request: openvino.InferRequest
    shape: tuple[int | None, ...]
    device: str
    options: dict[str, str]
    computed: Computed

    def run(self, batch: Batch) -> Batch:
        """[N,3,H,W] float32 to the first output as float32.

        Raises:
            EngineError: OpenVINO refused the batch, or would have taken one that the file does not
                declare.
        """
        # OpenVINO itself takes other sizes than the file declares.
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
        try:
            output: Batch = self.request.infer([batch])[0].astype(np.float32)
        except RuntimeError as error:
            raise EngineError(
                "OpenVINO cannot run this batch", got=f"{list(batch.shape)}: {_why(error)}"
            ) from error
        return output


def compile_model(
    model: Path | bytes, provider: str, threads: int, precision: str, where: Path | None = None
) -> Compiled:
    """Compile a model for the device of a provider.

    Args:
        model: an .onnx file, or its content.
        threads: of the CPU; 0 lets OpenVINO choose.
        where: the file behind a content, for the error.

    Raises:
        EngineError: it cannot be compiled, or would not run where or as it was asked to.
    """
    import openvino

    place = where if isinstance(model, bytes) else model
    device, hint = DEVICES[provider], HINTS[precision]
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1}
    if device == "CPU" and threads:
        options["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    if device not in {name.partition(".")[0] for name in core.available_devices}:
        raise EngineError(
            f"OpenVINO has no device {device} here",
            where=f"--provider {provider}",
            expected=", ".join(core.available_devices),
            hint="install the driver of the device",
        )
    try:
        read = core.read_model(io.BytesIO(model) if isinstance(model, bytes) else str(model))
        compiled = core.compile_model(read, device, options)
    except RuntimeError as error:
        raise EngineError(
            "OpenVINO cannot compile this model",
            where=place,
            got=_why(error),
            hint="check the file with onnx.checker, or export again with --fresh-export",
        ) from error
    computed = read_computed(compiled)
    require_as_asked(compiled.get_property("EXECUTION_DEVICES"), computed, device, precision, place)
    shape = tuple(
        size.get_length() if size.is_static else None for size in read.input(0).partial_shape
    )
    kept = {name: _text(compiled.get_property(name)) for name in options}
    return Compiled(compiled.create_infer_request(), shape, device, kept, computed)


def require_as_asked(
    devices: Sequence[str], computed: Computed, device: str, precision: str, where: Path | None
) -> None:
    """Refuse, by an EngineError, a model that runs elsewhere than on a device, or in types that the
    plugin has put in the place of a precision's.

    Args:
        devices: that it runs on; one of several of a kind has a number (GPU.1).
    """
    lowered = {kind: count for kind, count in computed.by_type.items() if kind in _below(precision)}
    if [name.partition(".")[0] for name in devices] == [device] and not lowered:
        return
    raise EngineError(
        f"OpenVINO does not compute in {precision} on {device}, as was asked for",
        where=where,
        got=f"{', '.join(devices)}: "
        + ", ".join(f"{count} compute nodes in {kind}" for kind, count in lowered.items()),
        expected=f"{device}, INFERENCE_PRECISION_HINT {HINTS[precision]}",
    )


def _below(precision: str) -> frozenset[str]:
    """Types that a plugin may not put in the place of a precision's; those that are in the file are
    the file's."""
    return frozenset({"bf16"} if precision == "fp16" else {"bf16", "fp16"})


def _text(value: Any) -> str:
    # Element types have another text as objects, <Type: 'float32'>.
    return value.get_type_name() if hasattr(value, "get_type_name") else str(value)


def _why(error: RuntimeError) -> str:
    """OpenVINO's own reason, which stands below the places in its source."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return first_line(next((line for line in lines if "Exception from" not in line), lines[0]))


@dataclass(frozen=True)
class OpenvinoAlone(MeasuredAlone):
    """A file, and how it is compiled in a process of its own."""

    model: Path
    provider: str
    threads: int
    precision: str

    def measure_here(self, image: Batch) -> Alone:
        compiled = compile_model(self.model, self.provider, self.threads, self.precision)
        return Alone(time_run(compiled.run, image), peak_resident_mib())


class OpenvinoEngine:
    """A compiled model, and how to run the same in a process of its own."""

    def __init__(self, compiled: Compiled, alone: OpenvinoAlone) -> None:
        name = f"OpenVINO {compiled.device}"
        self.info: dict[str, Any] = {
            "providers": [name],
            "provider_options": {name: compiled.options},
            **compiled.computed.facts(name),
        }
        self.input_shape = compiled.shape
        self.run = compiled.run
        self.alone = alone.measure


def open_candidate(request: Request, file: FindFile) -> OpenvinoEngine:
    """`--engine openvino`; errors are compile_model's."""
    cell, model = request.cell, file()
    how = (cell.provider, request.threads, cell.precision)
    compiled = compile_model(model.content(), *how, where=model.path)
    return OpenvinoEngine(compiled, OpenvinoAlone(model.path, *how))
