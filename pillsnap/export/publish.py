"""From a traced graph to a published file: checked, proven, named, and exported only once."""

from __future__ import annotations

import hashlib
import os
import re
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config
from pillsnap.core.checkout import describe_checkout
from pillsnap.core.files import file_lock, write_atomic
from pillsnap.core.hashes import (
    TIMESTAMP_FORMAT,
    VERSION_TAG,
    canonical_json,
    prepare_version_tag,
    sha256_file,
)
from pillsnap.engines.torch.builders import is_built
from pillsnap.engines.torch.checkpoints import find_best_checkpoint
from pillsnap.engines.torch.safe_load import require_checkpoint
from pillsnap.export.check import prove
from pillsnap.export.classifier import trace_classifier
from pillsnap.export.detector import trace_detector
from pillsnap.export.exporters import Traced
from pillsnap.export.onnxfile import Exported, exported
from pillsnap.export.reading import graph_sha256
from pillsnap.export.recipe import Recipe, read_recipe
from pillsnap.export.reuse import Wanted
from pillsnap.export.runtimes import lower_ir_version

if TYPE_CHECKING:
    import onnx

# Whoever waits for a new second looks this often.
_POLL_S = 0.1


_TRACE = {DETECTION: trace_detector, CLASSIFICATION: trace_classifier}


def export_onnx(
    config: Config, stage: str, *, fresh: bool = False, marker: Path | None = None
) -> Exported:
    """Export a stage, or find the export of the same; one process at a time per out_dir and stage.
    `latest_<stage>.onnx` stays what it is: nobody has judged the file yet. Arguments and errors are
    those of export_detection_onnx."""
    checkpoint = find_best_checkpoint(config, stage)
    require_checkpoint(checkpoint)
    folder = config.out_dir
    with file_lock(folder / f".export-{stage}.lock"):
        recipe = read_recipe(config, stage, checkpoint)
        wanted = Wanted("export_key", recipe.key, checkpoint)
        found = wanted.marked(marker)
        if found is not None:
            return found
        if not fresh and not is_built(config, stage):
            found = wanted.newest(folder, _named(stage))
        if found is None:
            found = _publish(folder, config, recipe, _TRACE[stage](config, checkpoint))
        if marker is not None:
            wanted.mark(marker, found)
        return found


def find_export(config: Config, stage: str) -> Exported | None:
    """The newest export in config.out_dir that an export of a stage would be the same as.

    Raises:
        CheckpointError: the checkpoint is missing or does not fit.
        PillsnapError: the class map cannot be read.
    """
    if not config.out_dir.is_dir():
        return None
    checkpoint = find_best_checkpoint(config, stage)
    recipe = read_recipe(config, stage, checkpoint)
    return Wanted("export_key", recipe.key, checkpoint).newest(config.out_dir, _named(stage))


def _named(stage: str) -> re.Pattern[str]:
    return re.compile(rf"{stage}-{VERSION_TAG}\.onnx")


def _publish(folder: Path, config: Config, recipe: Recipe, traced: Traced) -> Exported:
    """Check and prove a graph, then write it under a name that is free."""
    model = traced.model
    lower_ir_version(model)
    prove(traced, config, recipe.stage, recipe.checkpoint)
    facts = {
        "model": traced.architecture,
        "checkpoint_entry": traced.entry,
        "params_million": str(traced.params_million),
        "strides": canonical_json(traced.strides),
        "graph_sha256": graph_sha256(model),
        **describe_checkout(config.source.parent).metadata(),
    }
    tag = prepare_version_tag(config.source.parent)
    while True:
        data = _serialise(model, recipe.stamp(tag, facts))
        digest = hashlib.sha256(data).hexdigest()
        path = folder / f"{recipe.stage}-{tag}.onnx"
        if not path.exists():
            write_atomic(path, data)
            break
        if sha256_file(path) == digest:
            break
        tag = _next_tag(tag, config.source.parent)
    return exported(path, digest, model, recipe.checkpoint)


def _next_tag(taken: str, project: Path) -> str:
    """A later tag: that of the next second, or a second more when the clock stands still."""
    if os.environ.get("SOURCE_DATE_EPOCH"):
        moment, sha = taken.rsplit("-", 1)
        later = datetime.strptime(moment, TIMESTAMP_FORMAT) + timedelta(seconds=1)
        return f"{later.strftime(TIMESTAMP_FORMAT)}-{sha}"
    while (tag := prepare_version_tag(project)) == taken:
        time.sleep(_POLL_S)
    return tag


def _serialise(model: onnx.ModelProto, metadata: dict[str, str]) -> bytes:
    from onnx import helper

    helper.set_model_props(model, metadata)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
