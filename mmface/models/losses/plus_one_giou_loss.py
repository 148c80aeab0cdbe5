# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The GIoU loss of CenterNet2, with one added to intersection and union."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn


def plus_one_giou(distances: Tensor, others: Tensor) -> Tensor:
    """Compute the GIoU variant of pairs of boxes given by distances from a common point.

    With intersection I, union U and enclosing box C it is (I + 1) / (U + 1) - (C - U) / C
    (FCOS and CenterNet2 ``iou_loss.py``). The added ones make it depend on the unit; CenterNet2
    uses strides.

    Args:
        distances: (..., 4) left, top, right, bottom, not negative.
        others: Same shape; at least one box of each pair must have an area.

    Returns:
        (...) values of at most 1, reached by equal boxes.
    """
    left, top, right, bottom = torch.minimum(distances, others).unbind(-1)
    overlap = (left + right) * (top + bottom)
    left, top, right, bottom = torch.maximum(distances, others).unbind(-1)
    enclosing = (left + right) * (top + bottom)
    union = _area(distances) + _area(others) - overlap
    return (overlap + 1) / (union + 1) - (enclosing - union) / enclosing


def _area(distances: Tensor) -> Tensor:
    left, top, right, bottom = distances.unbind(-1)
    return (left + right) * (top + bottom)


@MODELS.register_module()
class PlusOneGIoULoss(nn.Module):
    """One minus ``plus_one_giou``.

    Args:
        loss_weight: Factor of the result.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, distances: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of every box, not reduced, in float32.

        Args:
            distances: (..., 4) predicted left, top, right, bottom in strides, not negative.
            targets: Same shape; the boxes must have an area.

        Returns:
            (...) losses.
        """
        return self.loss_weight * (1 - plus_one_giou(distances.float(), targets))
