# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Quality focal loss without index selection."""

from __future__ import annotations

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
    """

    def __init__(self, beta: float = 2.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, quality: Tensor) -> Tensor:
        """Compute the loss of every element, not reduced.

        Args:
            logits: Raw scores, any shape.
            quality: Targets in [0, 1], same shape, without gradient.

        Returns:
            Loss of each element, in the shape of ``logits``.
        """
        focus = (quality - logits.sigmoid()).abs().pow(self.beta)
        loss = F.binary_cross_entropy_with_logits(logits, quality, reduction='none')
        return self.loss_weight * loss * focus
