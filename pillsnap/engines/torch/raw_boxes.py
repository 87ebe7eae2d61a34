"""A detector of ultralytics as a function of images to raw boxes, before NMS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.core.errors import CheckpointError

if TYPE_CHECKING:
    import torch


def has_queries(head: Any) -> bool:
    """Whether a head's boxes are of queries, as of an RT-DETR, and not one a cell."""
    return hasattr(head, "num_queries")


def decoded(model: Any, images: torch.Tensor) -> torch.Tensor:
    """What a model in evaluation mode makes of [N,3,H,W]: [N,4+classes,boxes], boxes as centre and
    size in input pixels, scores of 0 to 1; of a box for every cell, or for every query."""
    import torch

    output: tuple[Any, ...] = model(images)
    if not has_queries(model.model[-1]):
        found: torch.Tensor = output[0]
        return found
    # What the last layer of the decoder says; ultralytics from 8.4 on gives a choice of it first.
    boxes, scores = (each[-1] for each in output[1][:2])
    height, width = images.shape[2], images.shape[3]
    x, y = boxes[..., 0::2] * width, boxes[..., 1::2] * height
    rows = torch.cat((torch.stack((x, y), -1).flatten(-2), scores.sigmoid()), -1)
    return rows.transpose(1, 2)


def raw_boxes(model: Any) -> torch.nn.Module:
    """Wrap a model so that it gives [N,boxes,7] (see LoadedModel) in evaluation mode."""
    head = model.model[-1]
    try:
        head.end2end = False
    except AttributeError:  # ultralytics 8.4.0 to 8.4.7 go by whether it has the branch
        head._modules.pop("one2one_cv2", None)
    head.export = False
    # Otherwise anchors are cached by shape, and a checkpoint may bring those of its training.
    head.dynamic = True
    head.shape = None
    return rows_of(model, decoded)


def rows_of(model: torch.nn.Module, decode: Callable[[Any, Any], Any]) -> torch.nn.Module:
    """A model as a function to [N,boxes,7], see LoadedModel, by what makes [N,4+classes,boxes] of
    images with it; the module holds both, as `model` and `decode`."""
    import torch

    class RawBoxes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.decode = decode

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            output = self.decode(self.model, images)
            centre, half = output[:, 0:2], output[:, 2:4] * 0.5
            scores = output[:, 4:]
            best, index = scores.amax(1, keepdim=True), scores.argmax(1, keepdim=True)
            if scores.shape[1] > 1:
                first, second = scores.topk(2, dim=1).values.split(1, dim=1)
                lead = first - second
            else:
                lead = torch.full_like(best, torch.inf)
            rows = torch.cat((centre - half, centre + half, best, index.to(best.dtype), lead), 1)
            return rows.transpose(1, 2).contiguous()

    return RawBoxes().eval()


def forget_shapes(head: Any) -> None:
    """Take out of a head what its last pass left there of the shapes of its input."""
    import torch

    head.anchors = head.strides = head.valid_mask = torch.empty(0)
    head.shapes = []


def take_one_to_one(boxes: Any, path: Path) -> None:
    """Have what raw_boxes made give the boxes of the one-to-one head, all of them; CheckpointError
    for a model without. The heads are alike, and only their weights and what follows differ; one
    of queries is of this kind itself."""
    head: Any = boxes.model.model[-1] if boxes.decode is decoded else None
    if has_queries(head):
        return
    if getattr(head, "one2one_cv2", None) is None:
        raise CheckpointError(
            "the detector has no one-to-one head, and boxes of one are asked for",
            where=path,
            got="a builder's network" if head is None else type(head).__name__,
            expected="a YOLO26 or YOLOv10, with an ultralytics that leaves both heads",
            hint="is the candidate of another model? export this one again; or set "
            "detection.head: one_to_many",
        )
    head.cv2, head.cv3 = head.one2one_cv2, head.one2one_cv3
