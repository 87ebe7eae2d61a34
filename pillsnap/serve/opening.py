"""A model opened for the service: in a process of its own first, which can be ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineError
from pillsnap.core.isolated import IsolatedError, run_isolated
from pillsnap.core.workers import thread_count
from pillsnap.infer.choice import engine_of
from pillsnap.infer.models import Opened, open_model


def prove_model(
    config: Config, stage: str, path: Path, sha256: str | None = None
) -> tuple[dict[str, str], bool]:
    """`version` and `whole` of a model that open_warm has opened in a process of its own, which
    leaves nothing in this one.

    Raises:
        EngineError: it does not come to an end there within serve.load_timeout_s, or crashes.
        PillsnapError: see open_warm.
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
    """Prove a model, then load the same bytes here; raises PillsnapError, see prove_model, also
    where the file changed in between."""
    version, _ = prove_model(config, stage, path, sha256)
    return open_warm(config, stage, path, version["sha256"])


def _prove(
    config: Config, stage: str, path: Path, sha256: str | None
) -> tuple[dict[str, str], bool]:
    opened = open_warm(config, stage, path, sha256)
    return opened.version, opened.whole


def open_warm(config: Config, stage: str, path: Path, sha256: str | None) -> Opened:
    """Load a model in this process and run it once, on grey images.

    Args:
        sha256: of the only content that may be loaded; any by default.

    Raises:
        PillsnapError: see open_model; or it gives values that are not finite.
    """
    opened = open_model(
        config,
        stage,
        path,
        provider=config.serve.provider,
        threads=thread_count(None, 1, config.runtime.cpu.intra_op_num_threads),
        engine=engine_of(path, config),
        sha256=sha256,
    )
    _, *sides = config.input_shape(stage)
    if not np.isfinite(opened.run(np.full((2, *sides), 0.5, np.float32))).all():
        raise EngineError(f"the {stage} model gives values that are not finite")
    return opened
