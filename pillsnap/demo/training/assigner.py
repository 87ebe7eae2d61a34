"""Makes each of the detector's three heads responsible for pills of its own range of sizes."""

from __future__ import annotations

import torch
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.tal import TaskAlignedAssigner

_LOWEST, _HIGHEST = 4, 10
"""Longest side of a head's pills, in strides of that head; ranges of neighbours overlap."""


class SizedAssigner(TaskAlignedAssigner):  # type: ignore[misc]  # ultralytics has no types
    """Ultralytics' assigner, with only anchors of fitting stride as candidates of a box.

    Nothing in the usual one asks for the coarse heads. Trained for a few epochs only, the finer
    two learn every pill, the head of stride 32 stays mute, and zeroing it changes no box: a
    gate could not tell.
    """

    def select_candidates_in_gts(
        self,
        xy_centers: torch.Tensor,
        gt_bboxes: torch.Tensor,
        mask_gt: torch.Tensor,
        eps: float = 1e-9,
    ) -> torch.Tensor:
        """Anchors [A, 2] within true boxes [N, B, 4], all in pixels: bool [N, B, A]."""
        inside: torch.Tensor = super().select_candidates_in_gts(xy_centers, gt_bboxes, mask_gt, eps)
        stride = _strides(xy_centers[:, 0])
        side = (gt_bboxes[..., 2:] - gt_bboxes[..., :2]).amax(-1, keepdim=True)
        fitting = inside
        fitting = fitting & ((side >= _LOWEST * stride) | (stride == 8))
        fitting = fitting & ((side <= _HIGHEST * stride) | (stride == 32))
        # A box that no fitting anchor lies in is better learned elsewhere than not at all.
        return torch.where(fitting.any(-1, keepdim=True), fitting, inside)


def give_heads_their_sizes(model: DetectionModel) -> None:
    """Sets up the loss of an ultralytics detection model with the assigner above."""
    criterion = model.init_criterion()
    usual = criterion.assigner
    options = ("topk", "topk2", "num_classes", "alpha", "beta", "stride")
    criterion.assigner = SizedAssigner(**{name: getattr(usual, name) for name in options})
    model.criterion = criterion


def _strides(x: torch.Tensor) -> torch.Tensor:
    """Stride of each anchor [A], from its x in pixels: centres lie half a stride off the grid."""
    stride = torch.full_like(x, 8)
    stride[x % 16 == 8] = 16
    stride[x % 32 == 16] = 32
    return stride
