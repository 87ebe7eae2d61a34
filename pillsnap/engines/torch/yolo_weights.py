"""Detector weights by name, as safetensors hold them: into a network of ultralytics' own yaml."""

from __future__ import annotations

import re
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from pillsnap.config.settings import Detection
from pillsnap.core.errors import CheckpointError, first_line
from pillsnap.engines.torch.fit import find_misfit
from pillsnap.engines.torch.safe_load import Origin
from pillsnap.engines.torch.statedict import Wanted, find_weights
from pillsnap.engines.torch.tensorfile import read_safetensors
from pillsnap.engines.torch.trainer import detector_facts, recorded_map


def read_detector_weights(settings: Detection, path: Path) -> tuple[Any, float | None, Origin]:
    """The configured network with the weights of a safetensors file: float32, evaluation mode; the
    mAP that its metadata record; and where the weights stand.

    Class names are those of the metadata's `names`, JSON as ultralytics' export writes it.

    Raises:
        CheckpointError: the file is damaged, ultralytics has no such model, or weights do not fit.
    """
    content = read_safetensors(path)
    model = _build(settings)
    wanted = Wanted(model.state_dict(), settings.checkpoint_entry, "detection.checkpoint_entry")
    weights = find_weights(content, wanted, path)
    state = {} if weights is None else weights.state
    _require_fit(settings, model, state, path)
    model.load_state_dict(state, strict=True)
    model.names = content.get("names")
    origin = Origin(said=detector_facts(content))
    if weights is not None:
        origin = Origin(weights.entry, weights.entries, origin.said, weights.notes)
    return model.float().eval(), recorded_map(content), origin


def plain_name(name: str) -> str:
    """yolo11m, yolov11m, YOLO11m.yaml and yolo11m.pt are one architecture."""
    return re.sub(r"\.(yaml|yml|pt)$", "", name.lower()).replace("yolov", "yolo")


def _build(settings: Detection) -> Any:
    """The network of ultralytics' own yaml of that name, without weights."""
    tasks: Any = import_module("ultralytics.nn.tasks")
    folder = Path(import_module("ultralytics").__file__ or "").parent / "cfg" / "models"
    files = {plain_name(file.stem): file for file in folder.rglob("*.yaml")}
    name = plain_name(settings.model)
    scaled = re.fullmatch(r"(yolo\d+)([a-z])(.*)", name)
    file = files.get(name) or (files.get(scaled[1] + scaled[3]) if scaled else None)
    if file is None:
        raise CheckpointError(
            "ultralytics has no such detector, so that weights alone cannot be loaded",
            where="config: detection.model",
            got=settings.model,
            expected="a model of ultralytics, as yolo11n or yolov8s-p2",
            hint="set detection.model to the one that was trained, or give the .pt that training "
            "saved, which has its structure too",
        )
    plan = import_module("ultralytics.utils").YAML.load(file)
    plan |= {"scale": scaled[2] if scaled else "", "yaml_file": f"{name}.yaml"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tasks.DetectionModel(plan, ch=3, nc=settings.num_classes, verbose=False)
    except Exception as error:  # of a yaml of another task
        raise CheckpointError(
            "ultralytics cannot build this model as a detector",
            where="config: detection.model",
            got=f"{settings.model}: {first_line(error)}",
        ) from error


def _require_fit(settings: Detection, model: Any, state: dict[str, Any], path: Path) -> None:
    misfit = find_misfit(model, state)
    if not misfit:
        return
    head = f"model.{len(model.model) - 1}.cv3.0.2.bias"
    classes = len(state[head]) if head in state and state[head].ndim else settings.num_classes
    what = "the checkpoint does not fit the detector"
    hint = misfit.hint() or (
        "set detection.model to the one that was trained; a .safetensors needs every weight of it, "
        "not fused, under ultralytics' names (model.state_dict())"
    )
    if misfit.same_names and classes != settings.num_classes:
        what = f"detector of {classes} classes, config says {settings.num_classes}"
        hint = f"set detection.num_classes: {classes}, or use the right checkpoint"
    raise CheckpointError(
        what,
        where=path,
        got=str(misfit),
        expected=f"{settings.model} with {settings.num_classes} classes",
        hint=hint,
    )
