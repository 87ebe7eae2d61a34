"""Of which layout a file of another exporter is: found by running it once, on noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pillsnap.engines import Batch
from pillsnap.engines.layouts import choose_layout
from pillsnap.engines.layouts.records import Expected, Outputs, Reading, Size
from pillsnap.export.onnxfile import Exported


def find_reading(
    exported: Exported,
    stage: str,
    run: Callable[[Batch], Outputs],
    *,
    classes: int,
    size: Size,
    boxes: int | None = None,
    asked: str | None = None,
) -> tuple[Reading, Outputs]:
    """How a file is to be read, and what it answered; the same in every process.

    Args:
        run: every output of the file for one image [1,3,H,W], or as many as it takes.
        classes, size, boxes: see Expected.
        asked: a value of `--layout`, if one is given.

    Raises:
        WrongCandidate, ConfigError: as choose_layout.
        EngineError: the file does not run.
    """
    expected = Expected(
        classes,
        size,
        boxes,
        suppresses=exported.suppression is not None,
        one_to_one=exported.metadata.get("end2end") == "True",
    )
    outputs = run(noise(size))
    return choose_layout(stage, outputs, expected, asked, exported.path), outputs


def noise(size: Size) -> Batch:
    """An image [1,3,H,W] that a file is run on to see what it answers."""
    return np.random.default_rng(0).random((1, 3, *size), np.float32)
