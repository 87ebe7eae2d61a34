"""A recipe carried out: a float32 graph becomes one of lower precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from pillsnap.core.errors import ExportError
from pillsnap.core.hashes import canonical_json
from pillsnap.export.quantize.calibration import Calibration, measure_ranges
from pillsnap.export.quantize.fp16 import to_fp16
from pillsnap.export.quantize.int8 import (
    STATIC_OPS,
    count_compute,
    quantize_dynamic,
    quantize_static,
)
from pillsnap.export.quantize.recipe import Recipe
from pillsnap.export.quantize.sensitivity import find_float_nodes

if TYPE_CHECKING:
    import onnx

# Images that method auto ranks the parts of a model on; the ranking needs few.
_PROBES = 4


@dataclass(frozen=True)
class Criterion:
    """What an INT8 model of method auto must pass.

    Attributes:
        name: names all that the judgement depends on, as tolerances and images; a file is reused
            only under the same name.
        passes: judges a model, on images that are not verified later.
    """

    name: str
    passes: Callable[[onnx.ModelProto], bool]


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
        result = to_fp16(model)
    elif recipe.method == "dynamic":
        result = quantize_dynamic(model, exclude=recipe.exclude)
    else:
        assert calibration is not None
        ranges, images = measure_ranges(model, calibration.batches(), STATIC_OPS)
        if recipe.method == "static":
            result = quantize_static(model, ranges, exclude=recipe.exclude)
        else:
            assert criterion is not None
            result, freed = find_float_nodes(
                model,
                ranges,
                list(islice(calibration.batches(), _PROBES)),
                criterion.passes,
                exclude=recipe.exclude,
            )
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
