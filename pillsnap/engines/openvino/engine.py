"""OpenVINO: an export compiled for a device, with the proof of what it computes in there.

On processors with bfloat16 the CPU plugin computes in it unless it is told not to, and keeps the
float32 of the file in name alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import EngineError
from pillsnap.engines.layouts.records import Outputs, Reading
from pillsnap.engines.openvino.devices import DEVICES, name_device
from pillsnap.engines.openvino.feeding import Inputs, inputs_of
from pillsnap.engines.openvino.proof import Computed, read_computed
from pillsnap.engines.openvino.reading import Source, read_model, read_source, why
from pillsnap.engines.protocol import Batch, FindFile, ModelFile, Request
from pillsnap.engines.timing import Alone, MeasuredAlone, peak_resident_mib, time_run
from pillsnap.pipeline.batches import filled_up, in_fixed_batches

if TYPE_CHECKING:
    import openvino

# What the plugin is told of a precision; of int8 the file's own nodes tell.
HINTS = {"fp32": "f32", "fp16": "f16", "int8": "f32"}


@dataclass(frozen=True)
class Compiled:
    """A model that runs where and as it was asked to.

    Attributes:
        inputs: how images are fed to it.
        names: of its outputs, in order.
        options: OpenVINO's properties, as they read back.
    """

    request: openvino.InferRequest
    inputs: Inputs
    names: tuple[str, ...]
    device: str
    options: dict[str, str]
    computed: Computed

    def run(self, batch: Batch) -> Batch:
        """[N,3,H,W] float32 to the first output as float32; errors are outputs'."""
        output: Batch = self.outputs(batch)[self.names[0]].astype(np.float32)
        return output

    def outputs(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Every output for [N,3,H,W] float32, by name.

        Raises:
            EngineError: OpenVINO refused the batch, or would have taken one that the file does not
                declare.
        """
        fed = self.inputs.feed(batch)
        try:
            found = self.request.infer([fed])
        except RuntimeError as error:
            raise EngineError(
                "OpenVINO cannot run this batch", got=f"{list(batch.shape)}: {why(error)}"
            ) from error
        # The request's next answer lies in the same memory.
        return {name: np.array(found[index]) for index, name in enumerate(self.names)}

    def read(self, reading: Reading, batch: Batch) -> Batch:
        """What candidates give, of a file of that layout."""
        return reading.read(self.outputs(batch), (batch.shape[2], batch.shape[3]))


def compile_model(
    model: Source, provider: str, threads: int, precision: str, where: Path | None = None
) -> Compiled:
    """Compile a model for the device of a provider.

    Args:
        model: a file, or what read_source gives of it.
        threads: of the CPU; 0 lets OpenVINO choose.
        where: the file behind a content, for the error.

    Raises:
        EngineError: it cannot be compiled, or would not run where or as it was asked to.
    """
    import openvino

    place = model if isinstance(model, Path) else where
    device, core = DEVICES[provider], openvino.Core()
    if device not in {name.partition(".")[0] for name in core.available_devices}:
        raise EngineError(
            f"OpenVINO has no device {device} here",
            where=f"--provider {provider}",
            expected=", ".join(core.available_devices),
            hint="install the driver of the device",
        )
    try:
        read = read_model(core, model)
        hint = _hint(core, device, precision, read)
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1}
        if device == "CPU" and threads:
            options["INFERENCE_NUM_THREADS"] = threads
        compiled = core.compile_model(read, device, options)
    except RuntimeError as error:
        raise EngineError(
            "OpenVINO cannot compile this model",
            where=place,
            got=why(error),
            hint="check the file with onnx.checker, or export again with --fresh-export",
        ) from error
    computed = read_computed(compiled)
    require_as_asked(compiled.get_property("EXECUTION_DEVICES"), computed, device, precision, place)
    names = tuple(
        output.any_name if output.names else f"output {index}"
        for index, output in enumerate(read.outputs)
    )
    kept = {name: _text(compiled.get_property(name)) for name in options}
    return Compiled(compiled.create_infer_request(), inputs_of(read), names, device, kept, computed)


def _hint(core: openvino.Core, device: str, precision: str, model: openvino.Model) -> str:
    """What a device is told of a precision. One without half precision would make bfloat16 of it,
    but takes weights in half precision into float32."""
    if precision != "fp16" or "FP16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        return HINTS[precision]
    weights = (each for each in model.get_ops() if each.get_type_name() == "Constant")
    half = any(each.get_output_element_type(0).get_type_name() == "f16" for each in weights)
    return HINTS["fp32" if half else precision]


def require_as_asked(
    devices: Sequence[str], computed: Computed, device: str, precision: str, where: Path | None
) -> None:
    """Refuse, by an EngineError, a model that runs elsewhere than on a device, or in types that the
    plugin has put in the place of a precision's.

    Args:
        devices: that it runs on; one of several of a kind has a number (GPU.1).
    """
    lowered = computed.lowered_to(_below(precision))
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
    """A compiled model, and how to run the same in a process of its own, `alone`.

    A file of one batch size is fed as many as it takes, the last filled up.
    """

    def __init__(self, compiled: Compiled, alone: OpenvinoAlone | None = None) -> None:
        name = name_device(compiled.device)
        self.info: dict[str, Any] = {
            "providers": [name],
            "provider_options": {name: compiled.options},
            **compiled.computed.facts(name),
        }
        self.input_shape = compiled.inputs.shape
        self._alone = alone
        self._compiled = compiled
        self._run = in_fixed_batches(self.input_shape[0], compiled.run)

    def run(self, batch: Batch) -> Batch:
        return self._run(batch)

    def outputs(self, images: Batch) -> Outputs:
        return self._compiled.outputs(filled_up(images, self.input_shape[0]))

    def read_by(self, reading: Reading) -> None:
        read = partial(self._compiled.read, reading)
        self._run = in_fixed_batches(self.input_shape[0], read)

    def alone(self, image: Batch) -> Alone | None:
        return None if self._alone is None else self._alone.measure(image)


def open_candidate(request: Request, file: FindFile) -> OpenvinoEngine:
    """`--engine openvino`; errors are compile_model's."""
    cell, model = request.cell, file()
    how = (cell.provider, request.threads, cell.precision)
    compiled = compile_model(read_source(model), *how, where=model.path)
    return OpenvinoEngine(compiled, OpenvinoAlone(model.path, *how))


def open_for_use(file: ModelFile, precision: str, provider: str, threads: int) -> OpenvinoEngine:
    """A file that runs after the gate; errors are compile_model's."""
    how = (provider, threads, precision)
    return OpenvinoEngine(compile_model(read_source(file), *how, where=file.path))
