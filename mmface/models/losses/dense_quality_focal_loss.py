# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Quality focal loss without index selection."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class DenseQualityFocalLoss(nn.Module):
    """Quality focal loss (arXiv 2006.04388, eq. 6) on a dense target map.

    The target q is the IoU of the box at positives and 0 elsewhere. The loss of a logit with
    probability p is BCE(p, q) * abs(q - p) ** beta. mmdet's class selects the positives by
    index, so shapes depend on the data and the host waits for the device. A dense target avoids
    both and gives the same values.

    Args:
        beta: Exponent of the modulating factor.
        loss_weight: Factor of the result.
        use_sigmoid: For the heads of mmdet, which read it in the config: it must be there.

    Raises:
        ValueError: ``use_sigmoid`` is false.
    """

    def __init__(
        self, beta: float = 2.0, loss_weight: float = 1.0, use_sigmoid: bool = True
    ) -> None:
        super().__init__()
        if not use_sigmoid:
            raise ValueError('DenseQualityFocalLoss supports only use_sigmoid=True, got False')
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(
        self,
        logits: Tensor,
        quality: Tensor | tuple[Tensor, Tensor],
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Compute the loss of every element, or a sum as the heads of mmdet ask for it.

        Args:
            logits: Raw scores, any shape; for mmdet (A, C).
            quality: Targets in [0, 1], same shape, without gradient. From mmdet a pair: classes
                (A,), which are C for background, and the quality of each prior (A,).
            weight: For mmdet, factor of each prior (A,).
            avg_factor: For mmdet, divisor of the sum.

        Returns:
            Loss of each element, in the shape of ``logits``; with ``avg_factor`` their sum.
        """
        if not isinstance(quality, Tensor):
            labels, scores = quality
            classes = torch.arange(logits.shape[-1], device=logits.device)
            quality = (labels[:, None] == classes) * scores[:, None]
        focus = (quality - logits.sigmoid()).abs().pow(self.beta)
        loss = F.binary_cross_entropy_with_logits(logits, quality, reduction='none')
        loss = self.loss_weight * loss * focus
        if weight is not None:
            loss = loss * weight[:, None]
        return loss if avg_factor is None else loss.sum() / avg_factor
