# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Soft non-maximum suppression."""

from __future__ import annotations

import torch
from mmcv.ops import soft_nms as mmcv_soft_nms
from torch import Tensor

METHODS = ('linear', 'gaussian')


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = 'linear',
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Lower the scores of boxes that overlap better boxes, instead of dropping them.

    Soft-NMS (arXiv 1704.04503). If a box has overlap o with a better box, its score is multiplied
    by

    * ``linear``: 1 - o where o >= ``iou_threshold``,
    * ``gaussian``: exp(-o^2 / ``sigma``), whatever the threshold. CenterFace's published results
      use this method, with sigma 0.5 and scores down to 0.001.

    It runs on the CPU for every device, because mmcv has no other kernel. mmcv's operator returns
    a score of NaN for boxes without an area, lets one NaN spread, and reads only float32. This
    function skips boxes that have no area or are not finite, and accepts every type.

    Args:
        boxes: (N, 4) xyxy, any unit.
        scores: (N,).
        iou_threshold: Smallest overlap that lowers a score; ``linear`` only.
        sigma: Width of the decay; ``gaussian`` only.
        min_score: Boxes with a score below this, from the start or later, are dropped.
        method: 'linear' or 'gaussian'.
        offset: 1 if the corners are whole pixels that belong to the box (a side is then
            x2 - x1 + 1), as in the code of the CenterFace references; else 0.

    Returns:
        The kept boxes with their new scores (n, 5), best first, and their indices (n,), on the
        device of ``boxes``.

    Raises:
        ValueError: ``method`` is unknown, or ``sigma`` is not above 0.
    """
    if method not in METHODS:
        raise ValueError(f"soft_nms: method must be 'linear' or 'gaussian', found {method!r}")
    if sigma <= 0:
        raise ValueError(f'soft_nms: sigma must be above 0, found {sigma}')
    sides = boxes[:, 2:] - boxes[:, :2] + offset
    sound = (torch.isfinite(boxes) & (sides > 0).repeat(1, 2)).all(-1) & (scores >= min_score)
    index = sound.nonzero()[:, 0]
    dets, keep = mmcv_soft_nms(
        boxes[index].float(),
        scores[index].float(),
        iou_threshold=iou_threshold,
        sigma=sigma,
        min_score=min_score,
        method=method,
        offset=offset,
    )
    return dets.to(boxes.dtype), index[keep]
