"""A model opened for the service: in a process of its own first, which can be ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineError
from pillsnap.core.isolated import IsolatedError, run_isolated
from pillsnap.core.workers import thread_count
from pillsnap.export.forms import FORMS
from pillsnap.infer.choice import engine_of
from pillsnap.infer.models import Opened, open_model


def open_proven(config: Config, stage: str, path: Path, sha256: str | None = None) -> Opened:
    """Load a model and run it once in a process of its own, then here the same bytes.

    Args:
        sha256: of the only content that may be loaded; any by default.

    Raises:
        EngineError: it does not come to an end there within serve.load_timeout_s, or crashes; or
            the file changed in between.
        PillsnapError: see open_model and warm_up.
    """
    if not path.is_file():  # a FIFO would be waited for
        raise EngineError("cannot read the model", where=path, got="not a regular file")
    seconds = config.serve.load_timeout_s
    try:
        proven = run_isolated(seconds, _prove, config, stage, path, sha256)
    except IsolatedError as error:
        raise EngineError(
            f"the {stage} model cannot be loaded and run once",
            where=path,
            got=" ".join(str(error).split()),
            expected=f"an answer within {seconds:g} s",
            hint="raise serve.load_timeout_s where the model is slow, not broken",
        ) from error
    return _open(config, stage, path, proven)


def _prove(config: Config, stage: str, path: Path, sha256: str | None) -> str:
    """Open a model in this process, for its SHA-256."""
    return _open(config, stage, path, sha256).version["sha256"]


def _open(config: Config, stage: str, path: Path, sha256: str | None) -> Opened:
    opened = open_model(
        config,
        stage,
        path,
        provider=config.serve.provider,
        threads=thread_count(None, 1, config.runtime.cpu.intra_op_num_threads),
        engine=engine_of(path),
        sha256=sha256,
    )
    warm_up(config, stage, opened)
    return opened


def warm_up(config: Config, stage: str, opened: Opened) -> None:
    """Run a model once, on grey images, and check what comes out.

    Raises:
        EngineError: it cannot run, or gives another shape or values that are not finite.
    """
    _, channels, height, width = config.input_shape(stage)
    output = opened.run(np.full((2, channels, height, width), 0.5, np.float32))
    classes, form = getattr(config, stage).num_classes, FORMS[stage]
    if not form.fits(output.shape, 2, classes):
        raise EngineError(
            f"the {stage} model does not fit the configuration",
            got=f"output {list(output.shape)}",
            expected=form.expected(2, classes),
        )
    if not np.isfinite(output).all():
        raise EngineError(f"the {stage} model gives values that are not finite")
