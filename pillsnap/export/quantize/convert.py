"""A recipe carried out: a float32 graph becomes one of lower precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.core.errors import ExportError
from pillsnap.core.hashes import canonical_json, code_sha256, sha256_json
from pillsnap.export.onnxfile import stage_of
from pillsnap.export.quantize.calibration import Calibration
from pillsnap.export.quantize.fp16 import to_fp16
from pillsnap.export.quantize.histograms import find_ranges
from pillsnap.export.quantize.int8 import (
    STATIC_OPS,
    count_compute,
    quantize_dynamic,
    quantize_static,
)
from pillsnap.export.quantize.lowering import Lowering, to_fp16_but, to_int8_but
from pillsnap.export.quantize.recipe import Recipe
from pillsnap.export.quantize.sensitivity import Tell, find_sensitivity
from pillsnap.export.quantize.trials import Measure, Trials

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Criterion:
    """What layers are kept in float by.

    Attributes:
        name: names all that a loss depends on beside model and code, as tolerances and images; what
            was made or measured is reused only under the same name.
        measure: tells what a model loses, on images that are not verified later.
        memory: folder in which it is remembered what was measured.
        tell: is told what a search will take.
    """

    name: str
    measure: Measure
    memory: Path | None = None
    tell: Tell | None = None


def open_trials(
    model: onnx.ModelProto,
    recipe: Recipe,
    calibration: Calibration,
    criterion: Criterion,
) -> tuple[Trials, int]:
    """Trials of a float32 model in the precision of a recipe, and the number of images that it is
    calibrated on; errors are find_ranges' and require_nodes'."""
    images = 0
    lowering: Lowering
    if recipe.precision == "fp16":
        lowering = to_fp16_but(model, recipe.exclude or ())
    else:
        method = recipe.calibration_method
        ranges, images = find_ranges(model, calibration.batches(), STATIC_OPS, method)
        lowering = to_int8_but(model, ranges, recipe.exclude)
    memory = criterion.memory
    if memory is not None:
        content = [recipe.facts(), sorted(lowering.fixed), criterion.name, code_sha256()]
        memory /= f"{sha256_json(content)}.json"
    return Trials(lowering, criterion.measure, memory), images


def convert(
    model: onnx.ModelProto,
    recipe: Recipe,
    calibration: Calibration | None,
    criterion: Criterion | None,
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Carry out a recipe on a float32 model, which stays as it is; arguments are quantize_once's.

    Returns:
        The converted model with the source's metadata, and further metadata by key.

    Raises:
        ExportError: it cannot be converted, or nothing in it can be.
    """
    images = 0
    freed: tuple[str, ...] = ()
    if recipe.precision == "fp16":
        result = to_fp16(model, exclude=recipe.exclude or ())
    elif recipe.method == "dynamic":
        result = quantize_dynamic(model, exclude=recipe.exclude)
    elif recipe.method == "static":
        assert calibration is not None
        method = recipe.calibration_method
        ranges, images = find_ranges(model, calibration.batches(), STATIC_OPS, method)
        result = quantize_static(model, ranges, exclude=recipe.exclude)
    else:
        assert calibration is not None and criterion is not None
        trials, images = open_trials(model, recipe, calibration, criterion)
        found = find_sensitivity(trials, tell=criterion.tell)
        if found.kept is None:
            raise ExportError(
                "the model cannot be quantised: it does not hold with all float that costs "
                "anything",
                where=f"the {stage_of(model)} model",
                got=f"{len(found.layers)} layers, and all but one left float",
                hint="use --precision fp16, or a wider tolerance for int8",
            )
        freed = found.kept_nodes
        result = trials.lowering.build(freed)
    low, left = count_compute(result)
    if not low:
        raise ExportError(
            f"nothing of the model could be converted to {recipe.precision}",
            where=recipe.source.path,
            got=f"{len(left)} nodes that compute, all float32",
            hint="verify it with --precision fp32",
        )
    return result, {
        "nodes_low": str(low),
        "float_nodes": canonical_json(left),
        "freed": canonical_json(freed),
        "calibration_images": str(images),
    }
