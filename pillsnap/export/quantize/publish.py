"""From a float32 file to a published one of lower precision: proven, named, and made only once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.config.settings import CalibrationMethod, Config
from pillsnap.core.errors import ConfigError, EngineError
from pillsnap.core.files import file_lock, write_atomic
from pillsnap.core.hashes import sha256_file
from pillsnap.export.check import prove
from pillsnap.export.exporters import Traced
from pillsnap.export.onnxfile import PREFIX, Exported, exported
from pillsnap.export.quantize.calibration import Calibration
from pillsnap.export.quantize.convert import Criterion, convert
from pillsnap.export.quantize.publish_openvino import publish_openvino
from pillsnap.export.quantize.recipe import NNCF, Recipe
from pillsnap.export.reading import graph_sha256, read_with_weights
from pillsnap.export.reuse import Wanted
from pillsnap.export.runtimes import lower_ir_version

if TYPE_CHECKING:
    import onnx


def quantize_once(
    config: Config,
    stage: str,
    source: Exported,
    precision: str,
    *,
    method: str = "static",
    calibration: Calibration | None = None,
    criterion: Criterion | None = None,
    exclude: Collection[str] | None = None,
    marker: Path | None = None,
) -> Exported:
    """Convert a float32 export, or find the same conversion; one process at a time of each kind.

    The file lies in config.out_dir as <source's name>-<precision>[-<method>].onnx (.xml and .bin
    of method nncf); where another recipe took that name, -2 and so on follow. The same recipe gives
    the same bytes.
    `latest_<stage>.onnx` stays what it is.

    Args:
        config: the one that the source, in float32, was exported with.
        precision: fp16 or int8.
        method: of int8: static, dynamic, auto, which leaves float what must be to pass, or nncf.
        calibration: images for all methods but dynamic.
        criterion: for auto.
        exclude: names of nodes that stay float; see quantize_static and to_fp16.
        marker: a file of this run and recipe: processes that share it agree on `reused`.

    Raises:
        ConfigError: something that the method needs is missing.
        EngineMissing: NNCF is not installed, for the method of that name.
        ExportError: the model cannot be converted, or is not what it should be afterwards.
        PillsnapError: an image cannot be read, or the folder cannot be written.
    """
    recipe = make_recipe(
        source,
        precision,
        method,
        calibration,
        criterion,
        exclude,
        config.export.quantize.calibration_method,
    )
    key = recipe.key()
    folder = config.out_dir
    label = "-".join(part for part in (stage, precision, recipe.method) if part)
    with file_lock(folder / f".quantize-{label}.lock"):
        wanted = Wanted("quantize_key", key, source.checkpoint)
        name = re.compile(rf"{re.escape(recipe.stem())}(-\d+)?{re.escape(recipe.suffix)}")
        found = wanted.marked(marker) or wanted.newest(folder, name)
        if found is None and recipe.method == NNCF:
            assert calibration is not None
            stamp = {**recipe.facts(), "quantize_key": key}
            found = publish_openvino(folder, recipe, calibration, stamp)
        if found is None:
            model, facts = convert(read_with_weights(source.path), recipe, calibration, criterion)
            lower_ir_version(model)
            where = source.path
            prove(Traced(model, source.params_million, "", _strides(source)), config, stage, where)
            _stamp(model, {**recipe.facts(), **facts, "quantize_key": key})
            found = _write(folder, recipe, model)
        if marker is not None:
            wanted.mark(marker, found)
        return found


def make_recipe(
    source: Exported,
    precision: str,
    method: str,
    calibration: Calibration | None,
    criterion: Criterion | None,
    exclude: Collection[str] | None,
    calibration_method: CalibrationMethod,
) -> Recipe:
    """The recipe of a conversion; arguments and ConfigError are quantize_once's."""
    if precision == "fp16":
        return Recipe(source, precision, "", "", exclude or (), "")
    if method == "dynamic":
        return Recipe(source, precision, method, "", exclude, "")
    if calibration is None or (method == "auto" and criterion is None):
        missing = "images to calibrate on" if calibration is None else "a criterion to hold"
        raise ConfigError(f"INT8 method {method} needs {missing}", where="--int8-method")
    name = criterion.name if criterion is not None and method == "auto" else ""
    digest = calibration.sha256
    return Recipe(source, precision, method, digest, exclude, name, calibration_method)


def _strides(source: Exported) -> tuple[int, ...]:
    """A detector's strides as its metadata say; raises EngineError where they are none."""
    text = source.metadata.get(PREFIX + "strides", "[]")
    if not re.fullmatch(r"\[(\d{1,4}(, ?\d{1,4})*)?\]", text):
        raise EngineError("the model's metadata are damaged", where=source.path, got=text[:80])
    return tuple(json.loads(text))


def _stamp(model: onnx.ModelProto, facts: dict[str, str]) -> None:
    """Add metadata to those of the source, replacing what is no longer true."""
    from onnx import helper

    entries = {entry.key: entry.value for entry in model.metadata_props}
    facts = {**facts, "graph_sha256": graph_sha256(model)}
    entries |= {PREFIX + key: value for key, value in facts.items()}
    helper.set_model_props(model, dict(sorted(entries.items())))


def _write(folder: Path, recipe: Recipe, model: onnx.ModelProto) -> Exported:
    """Write the model under the first name that no other recipe has."""
    data = model.SerializeToString(deterministic=True)
    digest = hashlib.sha256(data).hexdigest()
    for number in count(1):
        path = folder / f"{recipe.stem()}{f'-{number}' if number > 1 else ''}.onnx"
        if not path.exists():
            write_atomic(path, data)
            break
        if sha256_file(path) == digest:
            break
    return exported(path, digest, model, recipe.source.checkpoint)
