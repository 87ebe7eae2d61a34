"""Torch checkpoints to ONNX files that are checked, proven, named and published."""

from __future__ import annotations

from pathlib import Path

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config
from pillsnap.export.onnxfile import Exported, describe_onnx, stage_of
from pillsnap.export.publish import export_onnx
from pillsnap.export.reading import read_onnx, read_with_weights

__all__ = [
    "Exported",
    "describe_onnx",
    "export_classification_onnx",
    "export_detection_onnx",
    "export_onnx",
    "read_onnx",
    "read_with_weights",
    "stage_of",
]


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
