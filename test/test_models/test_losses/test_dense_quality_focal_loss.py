# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The quality focal loss as the heads of mmdet call it, compared with mmdet's own."""

from __future__ import annotations

import torch
from mmdet.models.losses import QualityFocalLoss

from mmface.models import DenseQualityFocalLoss


def test_loss__equals_mmdets_in_a_head_of_mmdet():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 3, generator=generator).requires_grad_()
    labels = torch.randint(0, 4, (40,), generator=generator)  # 3 is background
    scores = torch.rand(40, generator=generator) * (labels < 3)
    weight = torch.rand(40, generator=generator)
    grads, values = [], []
    for kind in (DenseQualityFocalLoss, QualityFocalLoss):
        loss = kind(beta=2.0, loss_weight=0.7)(
            logits, (labels, scores), weight=weight, avg_factor=7.0
        )
        values.append(loss)
        grads.append(torch.autograd.grad(loss, logits)[0])
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*grads)
