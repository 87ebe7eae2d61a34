"""timm classifiers to ONNX."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.config.settings import Config
from pillsnap.core.errors import ExportError, first_line
from pillsnap.engines.torch.checkpoints import build_classification_model, count_params
from pillsnap.export.dynamo import export_dynamo
from pillsnap.export.exporters import Traced, exporting

if TYPE_CHECKING:
    import torch

# How far from the size asked for a size that works is looked for, in pixels.
_SEARCH_PX = 64


def trace_classifier(config: Config, checkpoint: Path) -> Traced:
    """Export a classifier: `input` [N,3,S,S] float32 to `logits` [N,classes] float32; errors are
    trace_detector's."""
    import onnx
    import torch

    loaded = build_classification_model(config, checkpoint)
    module = loaded.module
    shape = config.export.input_shape.classification
    _require_size(module, shape[2])
    opset, exporter = config.export.opset, config.export.exporter
    free = {0: "batch"} if config.export.dynamic_axes else {}

    with exporting(checkpoint, opset, exporter):
        if exporter == "dynamo":
            model = export_dynamo(
                module, shape, opset=opset, input_name="input", output_name="logits", free=free
            )
        else:
            with tempfile.TemporaryDirectory(prefix="pillsnap-") as folder, torch.inference_mode():
                file = Path(folder, "classifier.onnx")
                torch.onnx.export(
                    module,
                    (torch.zeros(shape),),
                    file,
                    dynamo=False,
                    opset_version=opset,
                    do_constant_folding=True,
                    input_names=["input"],
                    output_names=["logits"],
                    dynamic_axes={"input": free, "logits": free} if free else None,
                )
                model = onnx.load(file)
    name, entry = config.classification.network, loaded.origin.entry
    return Traced(model, count_params(module), name, entry=entry)


def _require_size(module: torch.nn.Module, size: int) -> None:
    """Check that the network takes S x S images, on shapes alone (torch's meta device); else an
    ExportError names the nearest sizes that work."""
    import torch

    shapes_only = copy.deepcopy(module).to("meta")

    def problem(side: int) -> str | None:
        try:
            with torch.inference_mode():
                shapes_only(torch.zeros((1, 3, side, side), device="meta"))
        except NotImplementedError:
            return None  # an operator without a meta kernel tells nothing of sizes
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            # Nor does a network that makes tensors of its own, which lie on another device.
            return None if "meta" in str(error) else first_line(error)
        return None

    reason = problem(size)
    if reason is None:
        return
    own = (getattr(module, "pretrained_cfg", None) or {}).get("input_size", (3, size, size))[-1]
    below = (side for side in range(size - 1, max(0, size - _SEARCH_PX), -1) if not problem(side))
    above = (side for side in range(size + 1, size + _SEARCH_PX) if not problem(side))
    nearest = (next(below, None), next(above, None))
    sizes = [side for side in nearest if side is not None] or [own]
    raise ExportError(
        "the classifier cannot take this input shape",
        where="export.input_shape.classification",
        got=f"{size} x {size}: {reason}",
        expected=" or ".join(f"[1, 3, {side}, {side}]" for side in sizes),
        hint="use the size the model was trained with, or a backbone for this size",
    )
