# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The focal loss of heatmaps equals its definition and stays finite."""

from __future__ import annotations

import pytest
import torch

from mmface.models import DenseGaussianFocalLoss


def by_definition(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute CornerNet's loss from probabilities, in double precision."""
    p = logits.double().sigmoid()
    positive = -p.log() * (1 - p) ** 2
    negative = -(1 - p).log() * p**2 * (1 - target.double()) ** 4
    return torch.where(target == 1, positive, negative)


def test_loss__equals_its_definition():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 8, 9, generator=generator) * 4
    target = torch.rand(2, 1, 8, 9, generator=generator)
    target[0, 0, 2, 3] = target[1, 0, 5, 5] = 1
    found = DenseGaussianFocalLoss(loss_weight=2.0)(logits, target)
    torch.testing.assert_close(
        found.double(), 2 * by_definition(logits, target), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('target', [0.0, 0.7, 1.0])
def test_loss__is_finite_at_every_input(dtype, target):
    info = torch.finfo(dtype)
    values = [info.min, info.max, -info.tiny, 0.0, -100.0, 100.0, float('inf'), -float('inf')]
    logits = torch.tensor(values, dtype=dtype, requires_grad=True)
    loss = DenseGaussianFocalLoss()(logits, torch.full((len(values),), target))
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss).all()
    assert (loss >= 0).all()
    loss.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_loss__sure_and_wrong_keeps_its_gradient():
    # Clamped probabilities, the usual solution, would give no gradient.
    logits = torch.tensor([-30.0, 30.0], requires_grad=True)
    DenseGaussianFocalLoss()(logits, torch.tensor([1.0, 0.0])).sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([-1.0, 1.0]))


def test_loss__pushes_centres_up_and_the_rest_down_less_near_a_centre():
    logits = torch.zeros(3, requires_grad=True)
    DenseGaussianFocalLoss()(logits, torch.tensor([1.0, 0.9, 0.0])).sum().backward()
    centre, near, far = logits.grad.tolist()
    assert centre < 0 < near < far
    assert near == pytest.approx(far * 0.1**4, rel=1e-4)
