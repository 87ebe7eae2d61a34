"""Torch checkpoints to ONNX files that are checked, proven, named and published."""

from __future__ import annotations

from pathlib import Path

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config
from pillsnap.core.modelfiles import IR
from pillsnap.export.irfile import describe_ir, stage_of_ir
from pillsnap.export.onnxfile import Exported, describe_onnx, stage_of
from pillsnap.export.publish import export_onnx
from pillsnap.export.reading import read_onnx, read_with_weights

__all__ = [
    "Exported",
    "describe_model",
    "describe_onnx",
    "export_classification_onnx",
    "export_detection_onnx",
    "export_onnx",
    "read_onnx",
    "read_with_weights",
    "stage_of_model",
]


def describe_model(path: Path, stage: str) -> Exported:
    """Read what a model's file, .onnx or of OpenVINO, is, whoever wrote it; errors are
    describe_onnx's and describe_ir's."""
    return (describe_ir if path.suffix == IR else describe_onnx)(path, stage)


def stage_of_model(path: Path) -> str:
    """detection, classification or neither, see stage_in; errors are as describe_model's."""
    return stage_of_ir(path) if path.suffix == IR else stage_of(read_onnx(path))


def export_detection_onnx(
    config: Config, *, fresh: bool = False, marker: Path | None = None
) -> Exported:
    """Export the detector's checkpoint, or reuse an export of the same.

    The file maps `images` [N,3,H,W] float32 in 0..1 to `detections` [N,boxes,6] float32: x1, y1,
    x2, y2 in input pixels, score, class index; before NMS.

    Args:
        config: the whole configuration; export.opset, dynamic_axes and input_shape rule the file.
        fresh: never reuse a file of an earlier run.
        marker: a file of this run and stage. If it names an export of the same, that is returned,
            also with `fresh`, so that several processes export once; else it is written.

    Raises:
        CheckpointError: the checkpoint is missing or does not fit.
        ExportError: the file cannot be made as asked.
        PillsnapError: export.out_dir cannot be written.
    """
    return export_onnx(config, DETECTION, fresh=fresh, marker=marker)


def export_classification_onnx(
    config: Config, *, fresh: bool = False, marker: Path | None = None
) -> Exported:
    """Export the classifier's checkpoint, or reuse an export of the same.

    The file maps `input` [N,3,S,S] float32, normalised, to `logits` [N,num_classes] float32.
    Arguments and errors are those of export_detection_onnx.
    """
    return export_onnx(config, CLASSIFICATION, fresh=fresh, marker=marker)
