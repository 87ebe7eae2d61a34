"""Detectors that a function of the user's own builds, and the state dicts of such."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.settings import Detection
from pillsnap.core.errors import CheckpointError, first_line
from pillsnap.engines.torch.builders import build_network
from pillsnap.engines.torch.fit import find_misfit
from pillsnap.engines.torch.pickled import DETECTORS
from pillsnap.engines.torch.raw_boxes import has_queries, raw_boxes, rows_of, take_one_to_one
from pillsnap.engines.torch.safe_load import (
    LoadedModel,
    Origin,
    read_content,
    require_checkpoint,
    require_finite,
)
from pillsnap.engines.torch.statedict import Wanted, find_weights
from pillsnap.engines.torch.timm_models import SAVE_WEIGHTS
from pillsnap.engines.torch.trainer import detector_facts, recorded_map

if TYPE_CHECKING:
    import torch


def load_built_detector(
    settings: Detection, path: Path, shape: tuple[int, int, int, int]
) -> LoadedModel:
    """Build the network and fill it strictly from a checkpoint.

    One that ends in a head of ultralytics is run as such. Any other maps [N,3,H,W] to
    [N,4+classes,boxes] (boxes as centre and size in input pixels, scores of 0 to 1), or to a tuple
    that begins with it, and may say the `strides` of its cells, in the order of their boxes.

    Args:
        shape: of the images, for a first run.

    Raises:
        MissingCheckpoint: there is no such file.
        CheckpointError: it builds no network, unsafe or damaged file, weights that do not fit, or
            an answer of another shape.
    """
    require_checkpoint(path)
    network = build_network(settings)
    content = read_content(path, {}, SAVE_WEIGHTS)
    setting = "detection.checkpoint_entry"
    wanted = Wanted(network.state_dict(), settings.checkpoint_entry, setting)
    weights = find_weights(content, wanted, path)
    misfit = None if weights is None else find_misfit(network, weights.state)
    if weights is None or misfit:
        raise CheckpointError(
            "the checkpoint does not fit the network of detection.builder",
            where=path,
            got="no state dict" if misfit is None else str(misfit),
            expected=f"tensors by name, as the state_dict() of {settings.builder} has them",
            hint="torch.save(model.state_dict(), path) where it was trained",
        )
    network.load_state_dict(weights.state, strict=True)
    require_finite(network.float().eval(), path)
    head = _own_head(network)
    module = rows_of(network, _first) if head is None else raw_boxes(network)
    told: Any = getattr(network, "strides", ()) if head is None else _strides_of(head)
    strides = tuple(int(stride) for stride in told)
    _require_answer(module, settings, strides, shape)
    if settings.head == "one_to_one":
        take_one_to_one(module, path)
    origin = Origin(weights.entry, weights.entries, detector_facts(content), weights.notes)
    return LoadedModel(module, strides, (), recorded_map(content), origin)


def _own_head(network: Any) -> Any:
    """A network's last layer, where that is a head of ultralytics."""
    layers = getattr(network, "model", None)
    try:
        last = None if layers is None else layers[-1]
    except (TypeError, IndexError, KeyError):
        return None
    return last if type(last).__name__ in DETECTORS.heads else None


def _strides_of(head: Any) -> Any:
    return () if has_queries(head) else head.stride.tolist()


def _first(network: torch.nn.Module, images: torch.Tensor) -> Any:
    found = network(images)
    return found[0] if isinstance(found, tuple | list) else found


def _require_answer(
    module: Any,
    settings: Detection,
    strides: tuple[int, ...],
    shape: tuple[int, int, int, int],
) -> None:
    """Refuse a network that does not answer as load_built_detector says."""
    import torch

    _, channels, height, width = shape
    cells = sum((height // stride) * (width // stride) for stride in strides)
    columns = 4 + settings.num_classes
    found: Any
    try:
        with torch.inference_mode():
            answer = module.decode(module.model, torch.zeros(1, channels, height, width))
        found = list(answer.shape)
    except Exception as error:  # it is the user's own code
        found = f"{type(error).__name__}: {first_line(error)}"
    fits = isinstance(found, list) and found[:2] == [1, columns] and len(found) == 3
    if not fits or (cells and found[2] != cells):
        raise CheckpointError(
            "the network of detection.builder does not answer with boxes",
            where=f"config: detection.builder: {settings.builder}",
            got=found,
            expected=f"[1, {columns}, {cells or 'boxes'}] for one image of {height} x {width}: "
            "centre and size in pixels, a score of each class",
            hint="have the builder return a module whose forward gives that, in evaluation mode",
        )
