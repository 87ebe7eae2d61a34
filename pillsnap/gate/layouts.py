"""Of which layout a named file is, found by running it once; and what is compared of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pillsnap.compare.tasks import task_of
from pillsnap.config.settings import Config
from pillsnap.core.errors import ConfigError, EngineError
from pillsnap.engines.layouts import PLAIN
from pillsnap.engines.layouts.records import Array, Outputs, Reading, Size, TakesLayouts
from pillsnap.engines.protocol import Batch, Engine, Reference
from pillsnap.export import Exported
from pillsnap.export.forms import FORMS
from pillsnap.export.native import find_reading
from pillsnap.export.provenance import has_claims
from pillsnap.pipeline.batches import with_rows


def set_layout(
    engine: Engine,
    exported: Exported,
    config: Config,
    stage: str,
    reference: Reference,
    asked: str | None,
) -> dict[str, Any] | None:
    """Find a file's layout, and have its engine read it so.

    Files of pillsnap's own are as their form says, and refused where another layout is asked for.

    Args:
        asked: a value of `--layout`, if one is given.

    Returns:
        For the report: `name`, `words`, `outputs` that are read, `others`, `compared`, see Layout;
        `plain`, whether the first output is what pillsnap's own files give; `asked`; `batch_size`,
        which batches are filled up to, None for a free one; `nms`, thresholds that the reference's
        boxes are held to, of a file that leaves boxes out. None of a file of pillsnap's, and of an
        engine that reads no layouts.

    Raises:
        WrongCandidate: as find_reading.
        ConfigError: as find_reading; or a layout is asked of an engine that reads none.
        EngineError: the file does not run.
    """
    if stage not in FORMS or not isinstance(engine, TakesLayouts):
        if asked is not None:
            raise ConfigError(
                "the engine reads its files in one way only",
                where="--layout",
                got=f"{stage}={asked}",
                hint="leave it out, or name another --engine",
            )
        return None
    own = has_claims(exported)
    if own and asked is None:
        return None
    size, strides = reference.transform.input_size, reference.strides
    _, classes = task_of(stage).model(config)
    boxes = sum((size[0] // stride) * (size[1] // stride) for stride in strides) or None

    def run(image: Batch) -> Outputs:
        try:
            return engine.outputs(image)
        except EngineError:  # a batch size that the file does not say is fixed: see free_axes.py
            return engine.outputs(np.repeat(image, config.compare.batch_size, axis=0))

    reading, outputs = find_reading(
        exported, stage, run, classes=classes, size=size, boxes=boxes, asked=asked
    )
    if own:
        return None
    nms = None
    if reading.layout.compared in ("boxes", "one-to-one"):
        # One that gives fewer than is configured drops boxes that are wanted.
        most = max(config.nms.max_detections, reading.read(outputs, size).shape[1])
        nms = replace(config.nms, **_thresholds(exported, reading), max_detections=most)
    engine.read_by(reading if nms is None else _in_rows(reading, nms.max_detections))
    return {
        "name": reading.layout.name,
        "words": reading.layout.words,
        "outputs": list(reading.names),
        "others": [name for name in outputs if name not in reading.names],
        "compared": reading.layout.compared,
        "plain": reading.layout.name in PLAIN and reading.names == (next(iter(outputs)),),
        "asked": asked is not None,
        "batch_size": None if exported.dynamic_axes else next(iter(outputs.values())).shape[0],
        "nms": None if nms is None else asdict(nms),
    }


def _in_rows(reading: Reading, most: int) -> Reading:
    """Read boxes [N,K,6] as [N,most,6], whatever K is in a batch: zeros behind them."""

    def read(outputs: Sequence[Array], size: Size) -> Batch:
        return with_rows(reading.layout.read(outputs, size)[:, :most], most)

    return replace(reading, layout=replace(reading.layout, read=read))


def _thresholds(exported: Exported, reading: Reading) -> dict[str, Any]:
    """What the reference's boxes go through, as far as the file says so; those of a one-to-one head
    go through no NMS."""
    if reading.layout.compared == "one-to-one":
        return {"iou_threshold": 1.0}
    inside = exported.suppression
    found = {} if inside is None else asdict(inside)
    return {name: value for name, value in found.items() if value is not None}
