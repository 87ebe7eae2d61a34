"""ONNX Runtime: the engine that ships."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.engines.protocol import Batch, Engine, Reference, Request
from pillsnap.engines.providers import check_provider, select_onnx_providers
from pillsnap.errors import EngineError, EngineMissing

if TYPE_CHECKING:
    import onnxruntime as ort


def open_session(model: Path | bytes, provider: str, threads: int) -> ort.InferenceSession:
    """Load a model on the provider asked for.

    Args:
        model: an .onnx file, or its content.
        provider: auto, cpu, cuda or tensorrt; a named one must run or EngineError is raised.
        threads: intra-op threads; 0 lets ONNX Runtime choose.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait for the next batch take the cores from torch, whose turn it
    # is: 8.5 for 7.7 s a batch of YOLO11m on two.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # ONNX Runtime prints its own errors about providers to the terminal; ours say what to do.
    options.log_severity_level = 4
    asked = select_onnx_providers(provider)
    # TF32 keeps ten bits of mantissa: an fp32 comparison must not use it.
    settings = [{"use_tf32": "0"} if name == "CUDAExecutionProvider" else {} for name in asked]
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=asked,
            provider_options=settings,
        )
    except Exception as error:  # ORT's exceptions have no common base but this
        raise EngineError(
            "ONNX Runtime cannot load this model",
            where=None if isinstance(model, bytes) else model,
            got=str(error).strip().splitlines()[0],
            hint="check the file with onnx.checker, or export again with --fresh-export",
        ) from error
    # Without this, session.run starts again on the CPU when a provider fails at run time.
    session.disable_fallback()
    check_provider(provider, session.get_providers())
    return session


def infer_onnx(session: ort.InferenceSession, batch: Batch) -> Batch:
    """Run a session on [N,3,H,W] float32; returns its first output as float32.

    Raises:
        EngineError: ONNX Runtime refused the batch, most often a batch size or image size that the
            file was exported without.
    """
    try:
        output = session.run(None, {session.get_inputs()[0].name: batch})[0]
    except Exception as error:  # as above
        raise EngineError(
            "ONNX Runtime cannot run this batch",
            where=f"input {session.get_inputs()[0].name} {session.get_inputs()[0].shape}",
            got=f"{list(batch.shape)}: {str(error).strip().splitlines()[0]}",
            hint="export with dynamic_axes: true, or set batch_size and input_shape to the file's",
        ) from error
    result: Batch = output.astype("float32", copy=False)
    return result


class OnnxEngine:
    """An ONNX Runtime session."""

    def __init__(self, session: ort.InferenceSession, info: dict[str, Any]) -> None:
        self.info = {**info, "providers": session.get_providers()}
        self._session = session

    def run(self, batch: Batch) -> Batch:
        return infer_onnx(self._session, batch)


class OnnxBackend:
    """`--engine onnx` and `--engine tensorrt`."""

    def open_reference(self, request: Request) -> Reference:
        from pillsnap.engines.torch_engine import open_reference

        if find_spec("onnxruntime") is None:
            raise EngineMissing(
                "onnxruntime is not installed",
                where="--engine onnx",
                hint="pip install onnxruntime-gpu (or onnxruntime, never both)",
            )
        return open_reference(request)

    def open_candidate(self, request: Request) -> Engine:
        from pillsnap.export import describe_onnx, export_classification_onnx, export_detection_onnx
        from pillsnap.quantize import describe_quantized

        config, stage = request.config, request.cell.stage
        if request.candidate is not None:
            exported = describe_onnx(request.candidate, stage)
        else:
            export = export_detection_onnx if stage == "detection" else export_classification_onnx
            marker = request.run_dir / f"export-{stage}.json"
            exported = export(config, fresh=request.fresh_export, marker=marker)
            if request.cell.precision != "fp32":
                assert request.convert is not None  # whoever asks for a precision can make it
                exported = request.convert(exported)
        session = open_session(exported.path, request.cell.provider, request.threads)
        made = describe_quantized(exported)
        quantized = None if made is None else made.summary()
        return OnnxEngine(session, {**exported.summary(), "quantized": quantized})
