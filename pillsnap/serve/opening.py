"""A model opened for the service: in a process of its own first, which can be ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineError
from pillsnap.core.isolated import IsolatedError, run_isolated
from pillsnap.core.workers import thread_count
from pillsnap.infer.choice import engine_of
from pillsnap.infer.models import Opened, open_model


@dataclass(frozen=True)
class Proven:
    """What a model that has been loaded and run once was: see Opened; nothing of it is loaded
    here."""

    version: dict[str, str]
    whole: bool


def prove_model(config: Config, stage: str, path: Path, sha256: str | None = None) -> Proven:
    """Load a model and run it once in a process of its own, which leaves nothing in this one.

    Args:
        sha256: of the only content that may be loaded; any by default.

    Raises:
        EngineError: it does not come to an end there within serve.load_timeout_s, or crashes.
        PillsnapError: see open_model and warm_up.
    """
    if not path.is_file():  # a FIFO would be waited for
        raise EngineError("cannot read the model", where=path, got="not a regular file")
    seconds = config.serve.load_timeout_s
    try:
        return run_isolated(seconds, _prove, config, stage, path, sha256)
    except IsolatedError as error:
        raise EngineError(
            f"the {stage} model cannot be loaded and run once",
            where=path,
            got=" ".join(str(error).split()),
            expected=f"an answer within {seconds:g} s",
            hint="raise serve.load_timeout_s where the model is slow, not broken",
        ) from error


def open_proven(config: Config, stage: str, path: Path, sha256: str | None = None) -> Opened:
    """Prove a model, then load the same bytes here.

    Raises:
        PillsnapError: see prove_model; or the file changed in between.
    """
    proven = prove_model(config, stage, path, sha256)
    return open_warm(config, stage, path, proven.version["sha256"])


def _prove(config: Config, stage: str, path: Path, sha256: str | None) -> Proven:
    opened = open_warm(config, stage, path, sha256)
    return Proven(opened.version, opened.whole)


def open_warm(config: Config, stage: str, path: Path, sha256: str | None) -> Opened:
    """Load a model in this process and run it once; arguments and errors are prove_model's."""
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
    """Run a model once, on grey images.

    Raises:
        EngineError: it cannot run, gives another shape than its stage's, or values that are not
            finite.
    """
    _, channels, height, width = config.input_shape(stage)
    output = opened.run(np.full((2, channels, height, width), 0.5, np.float32))
    if not np.isfinite(output).all():
        raise EngineError(f"the {stage} model gives values that are not finite")
