# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The focal loss of heatmaps, computed from logits."""

from __future__ import annotations

import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

#: Logits are clamped to this value, the largest of float16, so that infinite logits give a
#: finite loss too.
MAX_LOGIT = 65504.0


@MODELS.register_module()
class DenseGaussianFocalLoss(nn.Module):
    """Focal loss on a map of Gaussians (CornerNet, arXiv 1808.01244, eq. 1).

    With probability p and target g the loss of a cell is -(1 - p)^alpha ln p where g is 1, and
    -(1 - g)^gamma p^alpha ln(1 - p) elsewhere. The CenterFace references take probabilities and,
    without a clamp, give NaN where one is 0 or 1. Logits in float32 need no clamp of the
    probability and keep their gradient.

    Args:
        alpha: Exponent of the prediction.
        gamma: Exponent that lowers the loss near a centre.
        loss_weight: Factor of the result.
    """

    def __init__(self, alpha: float = 2.0, gamma: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, heatmap: Tensor) -> Tensor:
        """Compute the loss of every cell, not reduced, in float32.

        Args:
            logits: Heatmap logits, any shape and floating type.
            heatmap: Targets in [0, 1], same shape, without gradient.

        Returns:
            Loss of each cell, in the shape of ``logits``.
        """
        logits = logits.float().clamp(-MAX_LOGIT, MAX_LOGIT)
        positive = -F.logsigmoid(logits) * (-logits).sigmoid().pow(self.alpha)
        negative = -F.logsigmoid(-logits) * logits.sigmoid().pow(self.alpha)
        negative = negative * (1 - heatmap).pow(self.gamma)
        return self.loss_weight * positive.where(heatmap == 1, negative)
