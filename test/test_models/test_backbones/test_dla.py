# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Layers, names and forward pass of DLA-34."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmface.models import DLA34

# dla34-ba72cf86.pth of the authors has 15,783,832 trained parameters (table 2 of the paper:
# 15.8 M). They include the classifier and two projections that are never read.
PUBLISHED = 15_783_832
CLASSIFIER = 512 * 1000 + 1000
UNREAD = (64 * 128 + 2 * 128) + (128 * 256 + 2 * 256)

# Names and shapes (out, in, kernel) of some tensors of that file.
SHAPES = {
    'base_layer.0.weight': (16, 3, 7),
    'level0.0.weight': (16, 16, 3),
    'level1.0.weight': (32, 16, 3),
    'level2.project.0.weight': (64, 32, 1),
    'level2.root.conv.weight': (64, 128, 1),
    'level3.tree1.project.0.weight': (128, 64, 1),
    'level3.tree1.root.conv.weight': (128, 256, 1),
    'level3.tree2.tree2.conv2.weight': (128, 128, 3),
    'level3.tree2.root.conv.weight': (128, 448, 1),
    'level4.tree2.root.conv.weight': (256, 896, 1),
    'level5.tree1.conv1.weight': (512, 256, 3),
    'level5.project.0.weight': (512, 256, 1),
    'level5.root.conv.weight': (512, 1280, 1),
}


def random_dla(**kwargs) -> DLA34:
    """Build a DLA-34 whose norms are not the identity."""
    torch.manual_seed(0)
    model = DLA34(**kwargs)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.running_var):
                value.data.uniform_(0.5, 1.5)
            for value in (module.bias, module.running_mean):
                value.data.uniform_(-0.5, 0.5)
    return model.eval()


def test_init__has_the_published_size_and_names():
    model = DLA34()
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED - CLASSIFIER - UNREAD
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name, (out_channels, in_channels, kernel) in SHAPES.items():
        assert shapes[name] == (out_channels, in_channels, kernel, kernel)
    assert not [name for name in shapes if name.startswith(('level3.project', 'level4.project'))]


def test_forward__is_what_the_tensors_of_its_state_dict_say():
    """Compare with the same network written as one formula per level."""
    model = random_dla(out_levels=(1, 2, 3, 4, 5))
    state = model.state_dict()

    def conv_norm(x, conv, norm, stride=1):
        weight = state[f'{conv}.weight']
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var, scale, shift = (
            state[f'{norm}.{name}'] for name in ('running_mean', 'running_var', 'weight', 'bias')
        )
        return F.batch_norm(x, mean, var, scale, shift)

    def block(x, name, shortcut, stride=1):
        out = conv_norm(x, f'{name}.conv1', f'{name}.bn1', stride).relu()
        return (conv_norm(out, f'{name}.conv2', f'{name}.bn2') + shortcut).relu()

    def root(name, *maps):
        return conv_norm(torch.cat(maps, 1), f'{name}.root.conv', f'{name}.root.bn').relu()

    def halving_pair(x, name):
        shortcut = conv_norm(F.max_pool2d(x, 2), f'{name}.project.0', f'{name}.project.1')
        first = block(x, f'{name}.tree1', shortcut, stride=2)
        return first, block(first, f'{name}.tree2', first)

    def deep_level(x, name):
        first, second = halving_pair(x, f'{name}.tree1')
        left = root(f'{name}.tree1', second, first)
        third = block(left, f'{name}.tree2.tree1', left)
        fourth = block(third, f'{name}.tree2.tree2', third)
        return root(f'{name}.tree2', fourth, third, F.max_pool2d(x, 2), left)

    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        outs = model(x)
        want = conv_norm(x, 'base_layer.0', 'base_layer.1').relu()
        want = conv_norm(want, 'level0.0', 'level0.1').relu()
        want = [conv_norm(want, 'level1.0', 'level1.1', stride=2).relu()]
        first, second = halving_pair(want[-1], 'level2')
        want.append(root('level2', second, first))
        want.append(deep_level(want[-1], 'level3'))
        want.append(deep_level(want[-1], 'level4'))
        first, second = halving_pair(want[-1], 'level5')
        want.append(root('level5', second, first, F.max_pool2d(want[-1], 2)))
    for out, expected, channels, stride in zip(
        outs, want, model.out_channels, (2, 4, 8, 16, 32), strict=True
    ):
        assert out.shape == (2, channels, 64 // stride, 96 // stride)
        assert out.std() > 0.1
        torch.testing.assert_close(out, expected)


def test_backward__every_parameter_is_used():
    model = DLA34()
    sum(out.square().mean() for out in model(torch.randn(2, 3, 64, 64))).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_init__stops_at_the_last_level_and_takes_other_norms():
    model = DLA34(out_levels=(2,), norm_cfg=dict(type='GN', num_groups=8))
    assert not hasattr(model, 'level3')
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    (out,) = model(torch.zeros(1, 3, 32, 64))
    assert out.shape == (1, 64, 8, 16)


@pytest.mark.parametrize('levels', [(), (5, 4), (3, 3), (4, 6), (-1, 2)])
def test_init__rejects_levels(levels):
    with pytest.raises(ValueError, match='ascending numbers from 0 to 5'):
        DLA34(out_levels=levels)
