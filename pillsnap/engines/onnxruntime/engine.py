"""ONNX Runtime: the engine that ships."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from pillsnap.core.errors import EngineMissing
from pillsnap.engines.onnxruntime.providers import require_loadable
from pillsnap.engines.onnxruntime.sessions import Session, open_session
from pillsnap.engines.protocol import Batch, Engine, Reference, Request
from pillsnap.engines.timing import Alone, OnnxAlone


class OnnxEngine:
    """An ONNX Runtime session.

    Args:
        info: what the report says of it, beside what the session says.
        alone: how to run the same in a process of its own.
    """

    def __init__(
        self, session: Session, info: dict[str, Any], alone: OnnxAlone | None = None
    ) -> None:
        self.info = {**info, **session.facts()}
        self._alone = alone
        self._session = session

    def run(self, batch: Batch) -> Batch:
        return self._session.run(batch)

    def alone(self, image: Batch) -> Alone | None:
        return None if self._alone is None else self._alone.measure(image)


class OnnxBackend:
    """`--engine onnx` and `--engine tensorrt`."""

    def open_reference(self, request: Request) -> Reference:
        from pillsnap.engines.torch.engine import open_reference

        if find_spec("onnxruntime") is None:
            raise EngineMissing(
                "onnxruntime is not installed",
                where="--engine onnx",
                hint="pip install onnxruntime-gpu (or onnxruntime, never both)",
            )
        return open_reference(request)

    def open_candidate(self, request: Request) -> Engine:
        from pillsnap.export import describe_onnx, export_onnx, stored_bytes
        from pillsnap.export.provenance import has_claims, require_fit
        from pillsnap.export.quantize import describe_quantized

        config, stage, cell = request.config, request.cell.stage, request.cell
        require_loadable(cell.provider, config.session_options)
        if request.candidate is not None:
            exported = describe_onnx(request.candidate, stage)
            require_fit(exported, config, stage, request.checkpoint_sha256, request.transform)
        else:
            marker = request.run_dir / f"export-{stage}.json"
            exported = export_onnx(config, stage, fresh=request.fresh_export, marker=marker)
            if cell.precision != "fp32":
                assert request.convert is not None  # whoever asks for a precision can make it
                exported = request.convert(exported)
        how = (
            cell.provider,
            request.threads,
            config.session_options,
            cell.precision,
        )
        made = describe_quantized(exported)
        quantized = None if made is None else made.summary()
        info = {
            **exported.summary(),
            "size_bytes": stored_bytes(exported.path),
            "quantized": quantized,
            "foreign": not has_claims(exported),
        }
        session = open_session(exported.content(), *how, where=exported.path)
        return OnnxEngine(session, info, OnnxAlone(exported.path, *how))
