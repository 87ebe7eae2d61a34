"""Detector checkpoints: Ultralytics models, loaded without running what is pickled in them."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from atexit import register
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pillsnap.config.settings import Detection
from pillsnap.core.alternatives import ULTRALYTICS
from pillsnap.core.errors import CheckpointError
from pillsnap.core.printable import printable
from pillsnap.engines.torch.agreement import another_architecture, another_head
from pillsnap.engines.torch.network import (
    broken_network,
    cells_of,
    class_names,
    require_head,
    try_network,
)
from pillsnap.engines.torch.pickled import DETECTORS
from pillsnap.engines.torch.raw_boxes import (
    forget_shapes,
    has_queries,
    raw_boxes,
    take_one_to_one,
)
from pillsnap.engines.torch.safe_load import LoadedModel, Origin, require_checkpoint, require_finite
from pillsnap.engines.torch.tensorfile import opens_as_safetensors
from pillsnap.engines.torch.trainer import detector_facts, recorded_map
from pillsnap.engines.torch.vocabulary import require_vocabulary
from pillsnap.engines.torch.yolo_weights import plain_name, read_detector_weights

QUERY_STRIDE = 32
"""Pixels per cell of the coarsest layer of an RT-DETR, whose head has no strides."""


def quiet_ultralytics() -> None:
    """Keep ultralytics offline, silent and out of the home folder; call before importing it.

    What the user set in the environment stays. YOLO_CONFIG_DIR becomes a folder of this process,
    so that no settings of another project are read or written.
    """
    defaults = {
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "false",
        "ULTRALYTICS_SAFE_LOAD": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="pillsnap-ultralytics-")
        os.environ["YOLO_CONFIG_DIR"] = folder
        register(shutil.rmtree, folder, ignore_errors=True)
    logging.getLogger("ultralytics").setLevel(logging.ERROR)


def load_detector(settings: Detection, path: Path) -> LoadedModel:
    """Load a detection model of ultralytics as trained: a YOLO, not fused, with its one-to-many
    head; a YOLO-World with its vocabulary; or an RT-DETR.

    Args:
        settings: the architecture and the class count that the checkpoint must have.
        path: a .pt that ultralytics saved, or a .safetensors of such a model's weights.

    Raises:
        MissingCheckpoint: there is no such file.
        CheckpointError: unsafe, damaged or foreign file, or another model than configured.
        EngineError: ultralytics is not installed, or not in a version that is known.
    """
    require_checkpoint(path)
    ULTRALYTICS.require()
    quiet_ultralytics()
    read = read_detector_weights if opens_as_safetensors(path) else read_pickled
    model, recorded, origin = read(settings, path)
    head = require_detection_head(model, path)
    _require_settings(settings, model, head, path)
    require_finite(model, path)
    strides = () if has_queries(head) else tuple(int(stride) for stride in head.stride.tolist())
    module = raw_boxes(model)
    try_network(module, (1, cells_of(strides), 7), path)
    forget_shapes(head)
    if settings.head == "one_to_one":
        take_one_to_one(module, path)
    return LoadedModel(module, strides, class_names(model, path), recorded, origin)


def read_pickled(settings: Detection, path: Path) -> tuple[Any, float | None, Origin]:
    """The ultralytics model in a .pt (its EMA if there is one, unless config chooses): float32,
    evaluation mode; the mAP that training recorded; and where it stands. Errors are
    load_detector's."""
    found = DETECTORS.read(settings.checkpoint_entry, path)
    require_head(require_detection_head(found.model, path), path)
    require_vocabulary(found.model, path)
    try:
        origin = Origin(found.entry, found.entries, detector_facts(found.content))
        return found.model.float().eval(), recorded_map(found.content), origin
    except Exception as error:  # whatever attributes of another kind raise
        raise broken_network(path, error) from error


def require_size(height: int, width: int, stride: int) -> None:
    """Check that a detector can take images of a size, its heads seeing whole cells: else, where a
    side is no multiple of the largest stride, a CheckpointError names the nearest that are."""
    if height % stride == 0 and width % stride == 0:
        return

    def text(up: int) -> str:
        sides = (max(1, side // stride + (up if side % stride else 0)) for side in (height, width))
        rows, columns = (side * stride for side in sides)
        return f"[1, 3, {rows}, {columns}]"

    raise CheckpointError(
        "the detector cannot take this input shape",
        where="export.input_shape.detection",
        got=f"height {height}, width {width}",
        expected=f"multiples of its largest stride, {stride}: {text(0)} or {text(1)}",
    )


def architecture(model: Any) -> str:
    """Name of the model's yaml file without suffix, as "yolo11n"; "" when it is not known."""
    yaml = getattr(model, "yaml", None)
    name = yaml.get("yaml_file") if isinstance(yaml, Mapping) else None
    return printable(Path(str(name).replace("\\", "/")).stem, 60) if name else ""


def require_detection_head(model: Any, path: Path) -> Any:
    """The model's last layer, when it detects boxes by its one-to-many branch or by queries; else,
    for another task or a branch that fusing took away, a CheckpointError."""
    head = DETECTORS.require_head(model, path)
    if has_queries(head):
        return head
    if getattr(head, "cv2", None) is None or getattr(head, "cv3", None) is None:
        raise CheckpointError(
            "the checkpoint was fused: its one-to-many head, which feeds the NMS, is gone",
            where=path,
            expected="the .pt as training saved it",
            hint="use the unfused checkpoint",
        )
    return head


def _require_settings(settings: Detection, model: Any, head: Any, path: Path) -> None:
    if head.nc != settings.num_classes:
        key = "detection.num_classes"
        raise another_head("detector", head.nc, key, settings.num_classes, path)
    found = architecture(model)
    if found and plain_name(found) != plain_name(settings.model):
        raise another_architecture(found, "detection.model", settings.model, path)
