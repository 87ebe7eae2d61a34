"""ONNX Runtime: the engine that ships."""

from __future__ import annotations

from typing import Any

from pillsnap.engines.onnxruntime.providers import require_loadable
from pillsnap.engines.onnxruntime.sessions import Session, open_session
from pillsnap.engines.protocol import Batch, FindFile, Request
from pillsnap.engines.timing import Alone, OnnxAlone


class OnnxEngine:
    """An ONNX Runtime session.

    Args:
        alone: how to run the same in a process of its own.
    """

    def __init__(self, session: Session, alone: OnnxAlone | None = None) -> None:
        self.info: dict[str, Any] = session.facts()
        self._alone = alone
        self._session = session

    def run(self, batch: Batch) -> Batch:
        return self._session.run(batch)

    def alone(self, image: Batch) -> Alone | None:
        return None if self._alone is None else self._alone.measure(image)


def open_candidate(request: Request, file: FindFile) -> OnnxEngine:
    """`--engine onnx` and `--engine tensorrt`; errors are require_loadable's and open_session's."""
    cell, runtime = request.cell, request.config.session_options
    require_loadable(cell.provider, runtime)
    model = file()
    how = (cell.provider, request.threads, runtime, cell.precision)
    session = open_session(model.content(), *how, where=model.path)
    return OnnxEngine(session, alone=OnnxAlone(model.path, *how))
