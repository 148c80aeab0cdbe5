# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Shapes and initialisation of the SCRFD backbones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmface.models import MobileNetV1, ResNetV1e

BACKBONES = {
    'mobilenet': lambda **kw: MobileNetV1((1, 2, 1, 1), (8, 8, 12, 16, 20, 24), **kw),
    'basic': lambda **kw: ResNetV1e((1, 2, 1, 1), (12, 16, 20, 24), base_channels=12, **kw),
    'bottleneck': lambda **kw: ResNetV1e(
        (1, 2, 1, 1), (3, 4, 5, 6), base_channels=12, block='bottleneck', **kw
    ),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_forward__strides_4_to_32(name):
    outs = BACKBONES[name]()(torch.zeros(1, 3, 64, 96))
    assert [tuple(out.shape) for out in outs] == [
        (1, channels, 64 // stride, 96 // stride)
        for channels, stride in zip((12, 16, 20, 24), (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize('name', BACKBONES)
def test_forward__only_the_wanted_stages(name):
    outs = BACKBONES[name](out_indices=(1, 3))(torch.zeros(1, 3, 64, 64))
    assert [out.shape[-1] for out in outs] == [8, 2]


@pytest.mark.parametrize('block', ['basic', 'bottleneck'])
def test_resnet__pool_after_the_stem_has_no_padding(block):
    pools = [m for m in BACKBONES[block]().stem if isinstance(m, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools] == [(2, 2, 0)]


@pytest.mark.parametrize(('block', 'last'), [('basic', 'bn2'), ('bottleneck', 'bn3')])
def test_resnet__blocks_start_as_their_shortcut(block, last):
    backbone = BACKBONES[block]()
    backbone.init_weights()
    zero = {
        n
        for n, m in backbone.named_modules()
        if isinstance(m, nn.BatchNorm2d) and not m.weight.any()
    }
    assert zero == {n for n, _ in backbone.named_modules() if n.endswith(last)}
    assert len(zero) == 5


def test_init__convolutions_are_kaiming_fan_out():
    backbone = ResNetV1e((1, 1, 1, 1), (64, 64, 64, 64), base_channels=64)
    backbone.init_weights()
    conv = backbone.layer1[0].conv1
    assert float(conv.weight.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: MobileNetV1((1, 1), (8,)), '4 stage_blocks and 6 stage_planes'),
        (lambda: ResNetV1e((1,), (8, 8, 8, 8), 8), '4 stage_blocks and 4 stage_planes'),
        (lambda: ResNetV1e((1,) * 4, (8,) * 4, 8, block='deep'), 'block must be one of'),
    ],
)
def test_init__wrong_shape_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
