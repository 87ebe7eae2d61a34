"""Files as ultralytics' own exporter and torch write them, of the trained checkpoints."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import onnx

from pillsnap.config.settings import Config
from pillsnap.engines.torch.checkpoints import build_detection_model, find_best_checkpoint
from pillsnap.export.exporters import exporting


def export_natively(config: Config, folder: Path, **options: Any) -> onnx.ModelProto:
    """`yolo export format=onnx` of a configuration's detector, with options of that."""
    loaded = build_detection_model(config, find_best_checkpoint(config, "detection"))
    network: Any = loaded.module.model
    network.pt_path = str(folder / "best.pt")
    network.task = "detect"
    network.args = None
    exporter: Any = import_module("ultralytics.engine.exporter")
    height, width = config.export.input_shape.detection[2:]
    given = {"format": "onnx", "imgsz": [height, width], "batch": 1, "simplify": False}
    given |= {"device": "cpu", "opset": 17}
    with exporting(folder, 17, "torchscript"):  # torch warns of it
        return onnx.load(exporter.Exporter(overrides={**given, **options})(model=network))
