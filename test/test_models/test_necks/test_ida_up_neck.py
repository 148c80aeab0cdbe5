# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterFace's neck: shape, receptive field of its parts, and norms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import random_maps
from mmface.models import IDAUpNeck

CHANNELS = (24, 32, 96, 320)
SHAPES = [
    (2, channels, 64 // s, 96 // s) for channels, s in zip(CHANNELS, (4, 8, 16, 32), strict=True)
]


@pytest.mark.parametrize('depthwise', [False, True])
@pytest.mark.parametrize('width', [24, 64])
def test_forward__one_map_of_stride_4(width, depthwise):
    neck = IDAUpNeck(CHANNELS, width, depthwise)
    (out,) = neck(random_maps(*SHAPES))
    assert out.shape == (2, width, 16, 24)
    assert out.min() == 0, 'the last layer is a ReLU'
    shape = (width, 1 if depthwise else width, 2, 2)
    assert all(up.deconv.weight.shape == shape for up in neck.ups)


def test_backward__every_map_and_parameter_is_used():
    neck = IDAUpNeck(CHANNELS)
    inputs = random_maps(*SHAPES, grad=True)
    neck(inputs)[0].square().mean().backward()
    assert all(feat.grad.abs().sum() > 0 for feat in inputs)
    assert not [name for name, p in neck.named_parameters() if p.grad is None]


def test_laterals__go_from_the_coarsest_to_the_finest():
    neck = IDAUpNeck(CHANNELS)
    assert [lateral.conv.in_channels for lateral in neck.laterals] == [96, 32, 24]
    assert neck.top.conv.in_channels == 320


def test_norms__are_those_of_the_references():
    neck = IDAUpNeck(CHANNELS)
    norms = {n: (m.eps, m.momentum) for n, m in neck.named_modules() if hasattr(m, 'eps')}
    assert norms.pop('last.bn') == (1e-5, 0.01)
    assert len(norms) == 7
    assert set(norms.values()) == {(1e-3, 0.1)}


@pytest.mark.parametrize('depthwise', [False, True])
def test_init__upsampling_keeps_the_spread(depthwise):
    neck = IDAUpNeck(CHANNELS, 64, depthwise)
    neck.init_weights()
    torch.manual_seed(0)
    feat = nn.functional.relu(torch.randn(1, 64, 20, 20))
    spread = neck.ups[0].deconv(feat).square().mean().sqrt()
    assert 0.4 < float(spread.detach()) < 1.6


def test_init__needs_four_maps():
    with pytest.raises(ValueError, match='4 maps'):
        IDAUpNeck((24, 32, 96))
