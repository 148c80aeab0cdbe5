# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The focal loss of CenterNet2's heatmaps, whose positives are passed separately."""

from __future__ import annotations

from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class BinaryHeatmapFocalLoss(nn.Module):
    """Focal loss of a heatmap and of its positives (CenterNet2 ``heatmap_focal_loss.py``).

    With p = clamp(sigmoid(logit), c, 1 - c) and the target heatmap H in [0, 1]:

    * each positive has the loss -pos_weight * alpha * ln(p) (1 - p)^gamma;
    * each cell, positive or not, has the loss
      -neg_weight * (1 - alpha) * ln(1 - p) p^gamma (1 - H)^beta.

    A cell may be a positive more than once, and H may be below 1 there. Logits outside the clamp
    get no gradient.

    Args:
        alpha: Share of the positives.
        beta: Exponent that lowers the loss near centres.
        gamma: Exponent of the prediction.
        sigmoid_clamp: The bound c.
        ignore_high_fp: Cells with p of at least this value have no negative loss, because such a
            confident prediction may be an unlabelled object. ``None`` for no such bound.
        pos_weight: Factor of the positives' loss.
        neg_weight: Factor of the cells' loss.

    Raises:
        ValueError: ``ignore_high_fp`` is not inside (0, 1).
    """

    def __init__(
        self,
        alpha: float = 0.25,
        beta: float = 4.0,
        gamma: float = 2.0,
        sigmoid_clamp: float = 1e-4,
        ignore_high_fp: float | None = None,
        pos_weight: float = 1.0,
        neg_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if ignore_high_fp is not None and not 0 < ignore_high_fp < 1:
            raise ValueError(
                f'ignore_high_fp must be inside (0, 1), or None for no bound, got {ignore_high_fp}'
            )
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.sigmoid_clamp = sigmoid_clamp
        self.ignore_high_fp = ignore_high_fp
        self.pos_weight = pos_weight
        self.neg_weight = neg_weight

    def forward(
        self, logits: Tensor, heatmap: Tensor, pos_logits: Tensor, pos_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute both sums in float32; the caller divides them by a number of objects.

        Args:
            logits: Heatmap logits of all cells, any shape and floating type.
            heatmap: Targets H in [0, 1], same shape, without gradient.
            pos_logits: Heatmap logits of the candidates for positives, any other shape.
            pos_mask: Which candidates are positives, shape of ``pos_logits``.

        Returns:
            Sum over the positives and sum over the cells, two scalars.
        """
        chance = self._chance(pos_logits)
        positive = -chance.log() * (1 - chance).pow(self.gamma) * pos_mask
        chance = self._chance(logits)
        negative = -(1 - chance).log() * chance.pow(self.gamma) * (1 - heatmap).pow(self.beta)
        if self.ignore_high_fp is not None:
            negative = negative * (chance < self.ignore_high_fp)
        return (
            self.pos_weight * self.alpha * positive.sum(),
            self.neg_weight * (1 - self.alpha) * negative.sum(),
        )

    def _chance(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid().clamp(self.sigmoid_clamp, 1 - self.sigmoid_clamp)
