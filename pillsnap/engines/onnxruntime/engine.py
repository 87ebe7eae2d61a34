"""ONNX Runtime: the engine that ships."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pillsnap.config.settings import Config
from pillsnap.engines.layouts.records import Outputs, Reading
from pillsnap.engines.onnxruntime.feeding import input_shape
from pillsnap.engines.onnxruntime.precision import read_precision
from pillsnap.engines.onnxruntime.providers import TENSORRT, require_loadable
from pillsnap.engines.onnxruntime.sessions import Session, open_session
from pillsnap.engines.protocol import Batch, FindFile, ModelFile, Request
from pillsnap.engines.timing import Alone, OnnxAlone
from pillsnap.pipeline.batches import fixed_batch_size, in_fixed_batches


class OnnxEngine:
    """An ONNX Runtime session, and how to run the same in a process of its own, `alone`.

    A file of one batch size is fed as many as it takes, the last filled up.
    """

    def __init__(self, session: Session, alone: OnnxAlone | None = None) -> None:
        self.info: dict[str, Any] = session.facts()
        # TensorRT builds an engine for every shape, which takes minutes.
        builds = TENSORRT in self.info["providers"]
        self.input_shape = None if builds else input_shape(session.ort)
        self._alone = alone
        self._session = session
        self._run = in_fixed_batches(fixed_batch_size(session.ort), session.run)

    def run(self, batch: Batch) -> Batch:
        return self._run(batch)

    def outputs(self, images: Batch) -> Outputs:
        return self._session.probe(images)

    def read_by(self, reading: Reading) -> None:
        read = partial(self._session.read, reading)
        self._run = in_fixed_batches(fixed_batch_size(self._session.ort), read)

    def alone(self, image: Batch) -> Alone | None:
        return None if self._alone is None else self._alone.measure(image)

    def alone_in_float32(self, model: Path, image: Batch) -> Alone | None:
        if self._alone is None:
            return None
        return replace(self._alone, model=model, precision="fp32").measure(image)


def open_candidate(request: Request, file: FindFile) -> OnnxEngine:
    """`--engine onnx` and `--engine tensorrt`; errors are require_loadable's and open_session's."""
    cell, runtime = request.cell, request.config.session_options
    require_loadable(cell.provider, runtime)
    model = file()
    how = (cell.provider, request.threads, runtime, cell.precision)
    content = model.content()
    session = open_session(content, *how, where=model.path)
    engine = OnnxEngine(session, alone=OnnxAlone(model.path, *how))
    engine.info["precision"] = read_precision(content, session.options)
    return engine


def open_for_use(file: ModelFile, provider: str, threads: int, config: Config) -> OnnxEngine:
    """A file that runs after the gate; errors are open_session's."""
    return OnnxEngine(
        open_session(file.content(), provider, threads, config.session_options, where=file.path)
    )
