"""From a traced graph to a published file: checked, proven, named, and exported only once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.artifacts import (
    TIMESTAMP_FORMAT,
    canonical_json,
    file_lock,
    point_latest,
    prepare_version_tag,
    sha256_file,
    write_atomic,
)
from pillsnap.checkpoints import find_best_checkpoint
from pillsnap.config import Config
from pillsnap.errors import EngineError
from pillsnap.export.describe import (
    PREFIX,
    Exported,
    exported,
    graph_sha256,
    read_onnx,
)
from pillsnap.export.proof import prove
from pillsnap.export.recipe import Recipe, read_recipe
from pillsnap.export.tracing import Traced
from pillsnap.weights import require_checkpoint

if TYPE_CHECKING:
    import onnx

# Whoever waits for a new second looks this often.
_POLL_S = 0.1


def export_once(
    config: Config,
    stage: str,
    trace: Callable[[Config, Path], Traced],
    *,
    fresh: bool,
    marker: Path | None,
) -> Exported:
    """Export a stage, or find the export of the same; one process at a time per out_dir and stage.

    Args and errors are those of export_detection_onnx; `trace` writes the graph.
    """
    checkpoint = find_best_checkpoint(config.exp_dir, stage)
    require_checkpoint(checkpoint)
    folder = config.out_dir
    with file_lock(folder / f".export-{stage}.lock"):
        recipe = read_recipe(config, stage, checkpoint)
        found = None if marker is None else _marked(marker, recipe)
        if found is not None:
            return found
        if not fresh:
            found = _newest(folder, recipe)
        if found is None:
            found = _publish(folder, config, recipe, trace(config, checkpoint))
        point_latest(folder / f"latest_{stage}.onnx", found.path)
        if marker is not None:
            _mark(marker, recipe, found)
        return found


def _publish(folder: Path, config: Config, recipe: Recipe, traced: Traced) -> Exported:
    """Check and prove a graph, then write it under a name that is free."""
    prove(traced, config, recipe.stage, recipe.checkpoint)
    model = traced.model
    facts = {
        "model": traced.architecture,
        "params_million": str(traced.params_million),
        "strides": canonical_json(traced.strides),
        "graph_sha256": graph_sha256(model),
    }
    tag = prepare_version_tag()
    while True:
        data = _serialise(model, recipe.stamp(tag, facts))
        digest = hashlib.sha256(data).hexdigest()
        path = folder / f"{recipe.stage}-{tag}.onnx"
        if not path.exists():
            write_atomic(path, data)
            break
        if sha256_file(path) == digest:
            break
        tag = _next_tag(tag)
    return exported(path, digest, model, recipe.checkpoint)


def _next_tag(taken: str) -> str:
    """A later tag: that of the next second, or a second more when the clock stands still."""
    if os.environ.get("SOURCE_DATE_EPOCH"):
        moment, sha = taken.rsplit("-", 1)
        later = datetime.strptime(moment, TIMESTAMP_FORMAT) + timedelta(seconds=1)
        return f"{later.strftime(TIMESTAMP_FORMAT)}-{sha}"
    while (tag := prepare_version_tag()) == taken:
        time.sleep(_POLL_S)
    return tag


def _serialise(model: onnx.ModelProto, metadata: dict[str, str]) -> bytes:
    from onnx import helper

    del model.metadata_props[:]
    helper.set_model_props(model, metadata)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _newest(folder: Path, recipe: Recipe) -> Exported | None:
    """The newest whole export of the same recipe."""
    name = re.compile(rf"{recipe.stage}-\d{{8}}-\d{{6}}-(?:[0-9a-f]{{7}}|nogit)\.onnx")
    files = (path for path in folder.iterdir() if name.fullmatch(path.name))
    for path in sorted(files, reverse=True):
        try:
            model = read_onnx(path)
        except EngineError:
            continue
        found = exported(path, "", model)
        same = found.metadata.get(PREFIX + "export_key") == recipe.key
        if same and found.metadata.get(PREFIX + "graph_sha256") == graph_sha256(model):
            return exported(path, sha256_file(path), model, recipe.checkpoint, reused=True)
    return None


def _mark(marker: Path, recipe: Recipe, found: Exported) -> None:
    content = {
        "stage": recipe.stage,
        "export_key": recipe.key,
        "path": str(found.path),
        "sha256": found.sha256,
        "reused": found.reused,
    }
    write_atomic(marker, canonical_json(content).encode())


def _marked(marker: Path, recipe: Recipe) -> Exported | None:
    """The export that this run has made already, when the marker tells of one that still stands."""
    try:
        content: Any = json.loads(marker.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    if (content.get("stage"), content.get("export_key")) != (recipe.stage, recipe.key):
        return None
    path = Path(str(content.get("path")))
    if not path.is_file() or sha256_file(path) != content.get("sha256"):
        return None
    return exported(
        path,
        content["sha256"],
        read_onnx(path),
        recipe.checkpoint,
        reused=content.get("reused") is True,
    )
