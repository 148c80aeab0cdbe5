# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Box encoding relative to another box, as in detectron2."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmdet.models.task_modules.coders.base_bbox_coder import BaseBBoxCoder
from mmdet.registry import TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class UpperClampedDeltaCoder(BaseBBoxCoder):
    """Encode a box by its differences of centre and log size from another box.

    The formulas are those of detectron2 (``modeling/box_regression.py``, ``Box2BoxTransform``).
    mmdet's ``DeltaXYWHBBoxCoder`` also clamps the logarithms of the size from below, accepts only
    (N, 4) boxes and builds tensors on the host in every call.

    Args:
        weights: Factors of the differences in x, y, width and height; the reciprocals of mmdet's
            ``target_stds``.
        max_log_ratio: Upper limit of the two logarithms when decoding, so that the exponential
            stays finite for an untrained network.
    """

    def __init__(
        self,
        weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        max_log_ratio: float = math.log(1000 / 16),
    ) -> None:
        super().__init__(use_box_type=False)
        self.weights = tuple(weights)
        self.max_log_ratio = max_log_ratio

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Compute the differences from ``bboxes`` to ``gt_bboxes``.

        Args:
            bboxes: (..., 4) xyxy, any unit. For empty boxes the result is NaN or infinite.
            gt_bboxes: (..., 4) xyxy, the same unit.

        Returns:
            (..., 4) weighted differences: x and y of the centres, divided by the sides of
            ``bboxes``, and the logarithms of width and height.
        """
        x, y, width, height = _centre_and_size(bboxes)
        gt_x, gt_y, gt_width, gt_height = _centre_and_size(gt_bboxes)
        deltas = (
            (gt_x - x) / width,
            (gt_y - y) / height,
            (gt_width / width).log(),
            (gt_height / height).log(),
        )
        pairs = zip(self.weights, deltas, strict=True)
        return torch.stack([weight * delta for weight, delta in pairs], dim=-1)

    def decode(self, bboxes: Tensor, pred_bboxes: Tensor) -> Tensor:
        """Move ``bboxes`` by predicted differences, without clipping to an image.

        Args:
            bboxes: (..., 4) xyxy, any unit.
            pred_bboxes: (..., 4) differences, see ``encode``.

        Returns:
            (..., 4) xyxy in the unit of ``bboxes``.
        """
        x, y, width, height = _centre_and_size(bboxes)
        pairs = zip(pred_bboxes.unbind(-1), self.weights, strict=True)
        dx, dy, log_width, log_height = (delta / weight for delta, weight in pairs)
        x = dx * width + x
        y = dy * height + y
        half_width = 0.5 * log_width.clamp(max=self.max_log_ratio).exp() * width
        half_height = 0.5 * log_height.clamp(max=self.max_log_ratio).exp() * height
        return torch.stack(
            [x - half_width, y - half_height, x + half_width, y + half_height], dim=-1
        )


def _centre_and_size(bboxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    left, top, right, bottom = bboxes.unbind(-1)
    width, height = right - left, bottom - top
    return left + 0.5 * width, top + 0.5 * height, width, height
