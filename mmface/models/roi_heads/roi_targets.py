# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Sampling and targets of RoIs, for a whole batch in fixed shapes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmface.models.task_modules.batched_atss_assigner import box_iou
from mmface.models.task_modules.padded_ground_truth import PaddedGroundTruth

# Pairs of RoIs and objects compared at a time: all pairs of a crowd would not fit into memory.
_PAIRS_AT_ONCE = 1 << 24


class RoITargets(NamedTuple):
    """Targets of RoIs, including padding and dropped RoIs.

    Attributes:
        foreground: (B, N) whether the IoU with an object is high enough.
        labels: (B, N) class of the object of highest IoU; meaningful for foreground only.
        bboxes: (B, N, 4) that object, xyxy in input pixels; meaningful for foreground only.
    """

    foreground: Tensor
    labels: Tensor
    bboxes: Tensor


@torch.no_grad()
def match_rois(bboxes: Tensor, gt: PaddedGroundTruth, min_iou: float) -> RoITargets:
    """Match each RoI with the object of highest IoU.

    The rule is that of detectron2's ``Matcher`` with one threshold and without low-quality
    matches.

    Args:
        bboxes: (B, N, 4) xyxy in input pixels; padding is zero and stays background.
        gt: The objects.
        min_iou: Minimum IoU of foreground.

    Returns:
        The targets.
    """
    step = max(_PAIRS_AT_ONCE // gt.mask.numel(), 1)
    found = [box_iou(p[:, :, None], gt.bboxes[:, None]).max(-1) for p in bboxes.split(step, dim=1)]
    iou, index = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    matched = gt.bboxes.gather(1, index[..., None].expand(-1, -1, 4))
    return RoITargets(iou >= min_iou, gt.labels.gather(1, index), matched)


@torch.no_grad()
def sample_rois(
    foreground: Tensor, background: Tensor, num_samples: int, pos_fraction: float
) -> tuple[Tensor, Tensor]:
    """Sample RoIs at random: some foreground, the rest background.

    As in detectron2's ``subsample_labels``: at most ``num_samples * pos_fraction`` foreground, and
    background for the rest. Missing background is not replaced by more foreground.

    Args:
        foreground: (B, N) which may be drawn as foreground.
        background: (B, N) which may be drawn as background.
        num_samples: Number of samples per image.
        pos_fraction: Largest fraction of them that may be foreground.

    Returns:
        Indices (B, K) into N, foreground first, with K = min(N, num_samples), and a mask (B, K)
        of the drawn ones. The other indices only fill up the fixed shape.
    """
    total = foreground.shape[1]
    draw = torch.rand(foreground.shape, device=foreground.device)
    best = torch.where(foreground, draw, -1).topk(min(int(num_samples * pos_fraction), total))
    chosen = torch.zeros_like(foreground).scatter(1, best.indices, best.values >= 0)
    rank = torch.where(chosen, 2, torch.where(background, draw, -1))
    value, index = rank.topk(min(num_samples, total))
    return index, value >= 0
