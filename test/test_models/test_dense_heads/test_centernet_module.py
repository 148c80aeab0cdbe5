# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The network of CenterNet2's dense heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import random_maps
from mmface.models.dense_heads.centernet_module import CenterNetModule


@pytest.mark.parametrize(('classes', 'agnostic'), [(0, True), (3, False), (3, True)])
def test_module__gives_what_is_asked_for(classes, agnostic):
    module = CenterNetModule(32, 2, classes, agnostic, stacked_convs=2)
    scores, heat, distances = module(random_maps((2, 32, 8, 9), (2, 32, 4, 5)))
    shapes = [(8, 9), (4, 5)]
    assert [m.shape for m in scores] == [(2, classes, *s) for s in shapes if classes]
    assert [m.shape for m in heat] == [(2, 1, *s) for s in shapes if agnostic]
    assert [m.shape for m in distances] == [(2, 4, *s) for s in shapes]
    assert all((m >= 0).all() for m in distances)


def test_module__starts_as_the_reference_does():
    torch.manual_seed(0)
    module = CenterNetModule(64, 5, 10, True)
    module.init_weights()
    convs = {name: m for name, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    assert len(convs) == 4 + 4 + 3
    biases = dict(conv_reg=8.0, conv_cls=-4.59512, cls_logits=-4.59512)
    for name, conv in convs.items():
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.1), name
        assert conv.weight.mean().abs() < 1e-3, name
        expected = torch.full_like(conv.bias, biases.get(name, 0.0))
        torch.testing.assert_close(conv.bias, expected, rtol=0, atol=1e-5)
    assert [float(scale.scale.detach()) for scale in module.scales] == [1.0] * 5


def test_module__proposals_need_the_reference_number_of_weights():
    module = CenterNetModule(256, 5, 0, True)
    norms = [p for m in module.modules() if isinstance(m, nn.GroupNorm) for p in m.parameters()]
    assert (len(norms), sum(p.numel() for p in norms)) == (8, 2048)
    tower = 4 * (256 * 256 * 9 + 256)
    assert sum(p.numel() for p in module.parameters()) == tower + 2048 + 5 * (256 * 9 + 1) + 5


def test_module__levels_share_weights_but_for_their_scale():
    module = CenterNetModule(32, 2, 0, True)
    module.init_weights()
    module.scales[1].scale.data.fill_(2.0)
    same = torch.randn(1, 32, 6, 6)
    _, heat, distances = module([same, same])
    assert torch.equal(heat[0], heat[1])
    torch.testing.assert_close(2 * distances[0], distances[1])


def test_module__deformable_convolution_is_the_last_of_each_tower():
    module = CenterNetModule(32, 2, 3, True, stacked_convs=2, dcn_on_last_conv=True)
    keys = module.state_dict()
    for tower in ('reg_convs', 'cls_convs'):
        assert f'{tower}.0.conv.conv_offset.weight' not in keys
        assert keys[f'{tower}.1.conv.conv_offset.weight'].shape == (27, 32, 3, 3)
        assert keys[f'{tower}.1.conv.bias'].shape == (32,)
    sum(
        level.sum() for row in module(random_maps((2, 32, 8, 9), (2, 32, 4, 5))) for level in row
    ).backward()
    assert all(p.grad is not None for p in module.parameters())
