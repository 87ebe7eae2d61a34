"""A graph of OpenVINO's own with INT8 inside, published beside the export that it was made of."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.core.errors import ExportError
from pillsnap.core.files import write_atomic
from pillsnap.core.hashes import canonical_json
from pillsnap.core.modelfiles import model_files, sha256_model
from pillsnap.engines.openvino.reading import Ir, read_ir
from pillsnap.export.irfile import read_ir_file
from pillsnap.export.onnxfile import Exported
from pillsnap.export.quantize.calibration import Calibration
from pillsnap.export.quantize.int8_openvino import quantize_openvino
from pillsnap.export.quantize.recipe import Recipe
from pillsnap.export.reading import read_with_weights
from pillsnap.export.stages import PREFIX

if TYPE_CHECKING:
    import openvino


def publish_openvino(
    folder: Path, recipe: Recipe, calibration: Calibration, stamp: Mapping[str, str]
) -> Exported:
    """Quantise a recipe's source and write the graph under the first name that no other has.

    Args:
        stamp: metadata by key, beside those of the source and what only the conversion can tell.

    Raises:
        PillsnapError: as quantize_openvino; or nothing in it can be quantised.
    """
    source = recipe.source
    model, counts, left = quantize_openvino(
        read_with_weights(source.path), calibration, exclude=recipe.exclude
    )
    if not counts["nodes_low"]:
        raise ExportError(
            "nothing of the model could be converted to int8",
            where=source.path,
            got=f"{len(left)} nodes that compute, all float32",
            hint="verify it with --precision fp32",
        )
    facts = {
        **source.metadata,
        **{PREFIX + key: value for key, value in stamp.items()},
        **{PREFIX + key: str(value) for key, value in counts.items()},
        PREFIX + "float_nodes": canonical_json(left),
        PREFIX + "freed": "[]",
    }
    content = _serialised(model, facts)
    for number in count(1):
        path = folder / f"{recipe.stem()}{f'-{number}' if number > 1 else ''}{recipe.suffix}"
        if not path.exists():
            graph, weights = model_files(path)
            write_atomic(weights, content.weights)
            write_atomic(graph, content.graph)
            break
        if sha256_model(path) == content.sha256:
            break
    return read_ir_file(path, source.checkpoint)


def _serialised(model: openvino.Model, facts: Mapping[str, str]) -> Ir:
    """The bytes of both files, with pillsnap's metadata in the graph."""
    import openvino

    with tempfile.TemporaryDirectory(prefix="pillsnap-") as name:
        path = Path(name, "model.xml")
        openvino.save_model(model, str(path), compress_to_fp16=False)
        weights = hashlib.sha256(read_ir(path).weights).hexdigest()
        entries = {**facts, PREFIX + "graph_sha256": weights}
        for key, value in sorted(entries.items()):
            if key.startswith(PREFIX):
                model.set_rt_info(value, [PREFIX.rstrip("."), key.removeprefix(PREFIX)])
        openvino.save_model(model, str(path), compress_to_fp16=False)
        return read_ir(path)
