"""ONNX Runtime sessions: made as the configuration says, and refused where they are not so."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pillsnap.config.runtime import Runtime
from pillsnap.core.alternatives import ONNXRUNTIME
from pillsnap.core.errors import EngineError, first_line
from pillsnap.engines.layouts.records import Reading
from pillsnap.engines.onnxruntime.branches import never_run
from pillsnap.engines.onnxruntime.feeding import run_session
from pillsnap.engines.onnxruntime.libraries import preload
from pillsnap.engines.onnxruntime.placement import Placement, read_placement, require_all_compute
from pillsnap.engines.onnxruntime.providers import (
    CPU,
    CUDA,
    NAMES,
    TENSORRT,
    Options,
    check_options,
    check_provider,
    provider_options,
    select_onnx_providers,
)
from pillsnap.engines.protocol import Batch
from pillsnap.pipeline.batches import filled_up, fixed_batch_size

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort


@dataclass(frozen=True)
class Session:
    """A model that runs where it was asked to.

    Attributes:
        ort: ONNX Runtime's own session.
        options: values that read back of the provider options asked for, by provider that runs.
        placement: where its nodes went; the first of its providers is the one in question.
    """

    ort: ort.InferenceSession
    options: Options
    placement: Placement

    def run(self, batch: Batch) -> Batch:
        """`infer_onnx` of this session."""
        return infer_onnx(self.ort, batch)

    def outputs(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Every output for [N,3,H,W] float32, by name; errors are run_session's."""
        outputs = zip(self.ort.get_outputs(), run_session(self.ort, batch), strict=True)
        return {output.name: values for output, values in outputs if hasattr(values, "dtype")}

    def probe(self, images: Batch) -> dict[str, NDArray[Any]]:
        """The same for images that are repeated where the file takes more at once."""
        return self.outputs(filled_up(images, fixed_batch_size(self.ort)))

    def read(self, reading: Reading, batch: Batch) -> Batch:
        """What candidates give, of a file of that layout."""
        return reading.read(self.outputs(batch), (batch.shape[2], batch.shape[3]))

    def facts(self) -> dict[str, Any]:
        """What the report says of it, as plain builtins."""
        return {
            "providers": self.ort.get_providers(),
            "provider_options": self.options,
            "placement": self.placement.as_dict(),
        }


def open_session(
    model: Path | bytes,
    provider: str,
    threads: int,
    runtime: Runtime | None = None,
    precision: str | None = None,
    where: Path | None = None,
) -> Session:
    """Load a model on the provider asked for.

    Args:
        model: an .onnx file, or its content.
        provider: auto, cpu, cuda or tensorrt. A named one must run, have every option that was
            asked for, and be given every compute node.
        threads: intra-op threads; 0 lets ONNX Runtime choose.
        runtime: options; the defaults by default.
        precision: of the cell, see provider_options.
        where: the file behind a content, for the error.

    Raises:
        EngineError: the model cannot be loaded, or does not run as asked; as ONNXRUNTIME.require.
    """
    ONNXRUNTIME.require()
    import onnxruntime as ort

    runtime = runtime or Runtime()
    asked = select_onnx_providers(provider)
    if asked[0] in (CUDA, TENSORRT):
        preload("tensorrt" if asked[0] == TENSORRT else "cuda")
    requested = provider_options(runtime, precision)
    # ONNX Runtime prints its own errors about providers to the terminal; ours say what to do.
    ort.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                _session_options(runtime, threads),
                providers=asked,
                provider_options=[requested[name] for name in asked],
                disabled_optimizers=list(runtime.disabled_optimizers),
            )
    except Exception as error:  # ORT's exceptions have no common base but this
        raise EngineError(
            "ONNX Runtime cannot load this model",
            where=where if isinstance(model, bytes) else model,
            got=first_line(error),
            hint="check the file with onnx.checker, or export again with --fresh-export",
        ) from error
    # Without this, session.run starts again on the CPU when a provider fails at run time.
    session.disable_fallback()
    check_provider(provider, session.get_providers())
    options = check_options(requested, session.get_provider_options())
    computing = NAMES.get(provider, session.get_providers()[0])
    placement = read_placement(session, computing, never_run(model))
    if provider in NAMES:
        require_all_compute(placement)
    return Session(session, options, placement)


def infer_onnx(session: ort.InferenceSession, batch: Batch) -> Batch:
    """Run a session on [N,3,H,W] float32; returns its first output as float32. Errors are
    run_session's."""
    result: Batch = run_session(session, batch)[0].astype("float32", copy=False)
    return result


def _session_options(runtime: Runtime, threads: int) -> ort.SessionOptions:
    import onnxruntime as ort

    options = ort.SessionOptions()
    level = getattr(ort.GraphOptimizationLevel, runtime.graph_optimization_level)
    options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = runtime.cpu.inter_op_num_threads
    # Threads that spin while they wait for the next batch take the cores from torch, whose turn it
    # is: 8.5 for 7.7 s a batch of YOLO11m on two.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.log_severity_level = 4
    return options


def open_in_memory(
    model: onnx.ModelProto, threads: int = 2, *, optimise: bool = True
) -> ort.InferenceSession:
    """Open a graph on the CPU, beside other work and for a short time; whatever ONNX Runtime raises
    is left to the caller to explain.

    Args:
        threads: intra-op threads; 0 lets ONNX Runtime choose. Fixed by default, since it must not
            change a bit of what is made by what the graph answers.
        optimise: whether nodes may be fused; without, every tensor of the graph exists.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # It would keep what the largest batch took; dozens of these sessions come and go.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=[CPU])
