"""Files as ultralytics' own exporter and torch write them, of the trained checkpoints."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import onnx

from pillsnap.config.cells import DETECTION
from pillsnap.config.settings import Config
from pillsnap.engines.torch.checkpoints import (
    build_classification_model,
    build_model,
    find_best_checkpoint,
)
from pillsnap.export.exporters import exporting


def export_natively(
    config: Config, folder: Path, stage: str = DETECTION, **options: Any
) -> onnx.ModelProto:
    """`yolo export format=onnx` of a configuration's model, with options of that."""
    loaded = build_model(config, stage, find_best_checkpoint(config, stage))
    network: Any = loaded.module.model
    network.pt_path = str(folder / "best.pt")
    network.task = "detect" if stage == DETECTION else "classify"
    network.args = None
    exporter: Any = import_module("ultralytics.engine.exporter")
    height, width = config.input_shape(stage)[2:]
    given = {"format": "onnx", "imgsz": [height, width], "batch": 1, "simplify": False}
    given |= {"device": "cpu", "opset": 17}
    with exporting(folder, 17, "torchscript"):  # torch warns of it
        return onnx.load(exporter.Exporter(overrides={**given, **options})(model=network))


def export_classifier(
    config: Config,
    folder: Path,
    *,
    softmax: bool = False,
    simplify: bool = False,
    half: bool = False,
    **options: Any,
) -> onnx.ModelProto:
    """torch.onnx.export of a configuration's classifier, with options of that; slimmed and in half
    precision by what ultralytics takes for it."""
    import torch
    from onnxruntime.transformers.float16 import convert_float_to_float16

    module = build_classification_model(
        config, find_best_checkpoint(config, "classification")
    ).module
    if softmax:
        module = torch.nn.Sequential(module, torch.nn.Softmax(dim=1)).eval()
    shape = config.export.input_shape.classification
    file = folder / "classifier.onnx"
    with exporting(folder, 17, "torchscript"), torch.inference_mode():
        torch.onnx.export(module, (torch.zeros(shape),), file, **{"dynamo": False, **options})
    model = onnx.load(file)
    model = import_module("onnxslim").slim(model) if simplify else model
    return convert_float_to_float16(model, keep_io_types=True) if half else model
