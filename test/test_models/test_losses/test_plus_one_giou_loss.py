# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The GIoU with one added to intersection and union, on worked examples."""

from __future__ import annotations

import pytest
import torch
from mmdet.registry import MODELS

import mmface.models  # noqa: F401
from mmface.models.losses.plus_one_giou_loss import plus_one_giou


def test_giou__equals_numbers_by_hand():
    # Boxes of 2 x 4 and 4 x 2 cells around a common point: I = 4, U = 12, C = 16.
    boxes = torch.tensor([1.0, 2.0, 1.0, 2.0]), torch.tensor([2.0, 1.0, 2.0, 1.0])
    assert plus_one_giou(*boxes).item() == pytest.approx(5 / 13 - 4 / 16)


def test_giou__equal_boxes_have_one_and_a_point_less():
    box = torch.tensor([3.0, 1.0, 0.0, 2.5])
    assert plus_one_giou(box, box).item() == 1
    # A predicted box without area in a box of 10.5 cells: I = 0, U = C = 10.5.
    assert plus_one_giou(torch.zeros(4), box).item() == pytest.approx(1 / 11.5)


def test_loss__is_weighted_and_not_reduced():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(2, 3, 4, generator=generator) * 5
    others = torch.rand(2, 3, 4, generator=generator) * 5
    loss = MODELS.build(dict(type='PlusOneGIoULoss', loss_weight=2.0))(boxes.half(), others)
    assert loss.dtype == torch.float32
    expected = 2 * (1 - plus_one_giou(boxes, others))
    torch.testing.assert_close(loss, expected, rtol=5e-3, atol=5e-3)


def test_loss__gradient_goes_towards_the_target():
    box = torch.tensor([1.0, 5.0, 1.0, 5.0], requires_grad=True)
    MODELS.build(dict(type='PlusOneGIoULoss'))(box, torch.full((4,), 3.0)).backward()
    assert torch.equal(box.grad.sign(), torch.tensor([-1.0, 1.0, -1.0, 1.0]))
