# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Shapes, layers and initialisation of CenterFace's backbone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmface.models import MobileNetV2Taps


@pytest.mark.parametrize(
    ('width', 'channels'), [(1.0, (24, 32, 96, 320)), (0.5, (16, 16, 48, 160))]
)
def test_forward__strides_4_to_32(width, channels):
    backbone = MobileNetV2Taps(width)
    assert backbone.out_channels == channels
    outs = backbone(torch.zeros(2, 3, 64, 96))
    assert [tuple(out.shape) for out in outs] == [
        (2, count, 64 // stride, 96 // stride)
        for count, stride in zip(channels, (4, 8, 16, 32), strict=True)
    ]


def test_forward__taps_are_linear():
    # The last block of a stage has no activation: its outputs have both signs.
    torch.manual_seed(0)
    for out in MobileNetV2Taps()(torch.randn(1, 3, 64, 64)):
        assert out.min() < 0 < out.max()


def test_backward__every_parameter_is_used():
    backbone = MobileNetV2Taps()
    sum(out.square().mean() for out in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None]


@pytest.mark.parametrize(('name', 'kind'), [('ReLU', nn.ReLU), ('ReLU6', nn.ReLU6)])
def test_init__activation(name, kind):
    backbone = MobileNetV2Taps(act_cfg=dict(type=name))
    found = [m for m in backbone.modules() if isinstance(m, (nn.ReLU, nn.ReLU6))]
    # The stem, 17 depthwise and 16 expanding convolutions.
    assert len(found) == 34
    assert {type(module) for module in found} == {kind}


def test_init__default_is_relu6():
    assert isinstance(MobileNetV2Taps().stem.activate, nn.ReLU6)


def test_init__width_must_be_positive():
    with pytest.raises(ValueError, match='must be positive, got 0'):
        MobileNetV2Taps(0)
