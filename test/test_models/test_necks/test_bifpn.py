# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Nodes, fusion and names of the BiFPN."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from helpers import random_maps
from mmface.models import BiFPN
from mmface.models.necks.bifpn import bifpn_nodes

WIDTHS = (24, 48, 64)
CHANNELS = 32
# As in the reference's code, for three and five levels.
NODES = {
    3: [(1, (1, 2)), (0, (0, 3)), (1, (1, 3, 4)), (2, (2, 5))],
    5: [
        (3, (3, 4)),
        (2, (2, 5)),
        (1, (1, 6)),
        (0, (0, 7)),
        (1, (1, 7, 8)),
        (2, (2, 6, 9)),
        (3, (3, 5, 10)),
        (4, (4, 11)),
    ],
}


def maps(size: int = 32) -> list[torch.Tensor]:
    shapes = ((2, width, size >> level, 2 * size >> level) for level, width in enumerate(WIDTHS))
    return random_maps(*shapes, seed=1)


def random_neck(**kwargs) -> BiFPN:
    torch.manual_seed(0)
    neck = BiFPN(WIDTHS, CHANNELS, norm_cfg=dict(type='GN', num_groups=4), **kwargs)
    neck.init_weights()
    for parameter in neck.parameters():
        if parameter.dim() == 1:
            parameter.data.uniform_(-0.5, 1.5)
    return neck


@pytest.mark.parametrize('levels', NODES)
def test_nodes__are_those_of_the_reference(levels):
    assert list(bifpn_nodes(levels)) == NODES[levels]


@pytest.mark.parametrize('kind', ['efficientdet', 'fcos'])
def test_forward__is_the_formula(kind):
    """Compare with one cell of three levels, with each node written out."""
    neck = random_neck(num_outs=3, num_cells=1, kind=kind)
    state = {name.removeprefix('cells.0.'): value for name, value in neck.state_dict().items()}
    assert any(value.lt(0).any() for name, value in state.items() if name.endswith('weights'))
    fine, middle, coarse = maps()

    def conv_norm(x, name):
        bias = state.get(f'{name}.conv.bias')
        assert (bias is None) == (kind == 'efficientdet' or '.out' in name)
        weight = state[f'{name}.conv.weight']
        x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        return F.group_norm(x, 4, state[f'{name}.gn.weight'], state[f'{name}.gn.bias'])

    def lateral(x, source, level, node):
        return conv_norm(x, f'laterals.{source}_{level if kind == "fcos" else node}')

    def half(x):
        return F.max_pool2d(x, 3, 2, 1) if kind == 'fcos' else F.max_pool2d(x, 2)

    def double(x):
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    def node(number, *inputs):
        weights = state[f'nodes.{number}.weights'].clamp(min=0)
        x = sum(w * x for w, x in zip(weights, inputs, strict=True)) / (weights.sum() + 1e-4)
        return conv_norm(x * x.sigmoid(), f'nodes.{number}.out')

    with torch.no_grad():
        down = node(0, lateral(middle, 1, 1, 0), double(lateral(coarse, 2, 1, 0)))
        first = node(1, lateral(fine, 0, 0, 1), double(down))
        second = node(2, lateral(middle, 1, 1, 2), down, half(first))
        third = node(3, lateral(coarse, 2, 2, 3), half(second))
        outs = neck([fine, middle, coarse])
    for out, expected in zip(outs, (first, second, third), strict=True):
        assert out.std() > 0.1
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['efficientdet', 'fcos'])
def test_forward__adds_levels(kind):
    neck = random_neck(num_outs=5, num_cells=2, kind=kind)
    inputs = maps(64)
    outs = neck(inputs)
    assert [tuple(out.shape) for out in outs] == [
        (2, CHANNELS, 64 >> level, 128 >> level) for level in range(5)
    ]
    assert len(inputs) == 3
    assert {name.split('.')[1] for name in neck.state_dict() if name.startswith('extra')} == {'0'}
    sum(out.square().mean() for out in outs).backward()
    assert not [name for name, p in neck.named_parameters() if p.grad is None]


def test_init__edges_share_laterals_in_the_fcos_kind_alone():
    laterals = {
        kind: set(BiFPN(WIDTHS, CHANNELS, 3, kind=kind).cells[0].laterals)
        for kind in ('efficientdet', 'fcos')
    }
    assert laterals['efficientdet'] == {'1_0', '2_0', '0_1', '1_2', '2_3'}
    assert laterals['fcos'] == {'1_1', '2_1', '0_0', '2_2'}
    # Later cells need no laterals, and neither does the first one if the backbone's maps fit.
    assert not BiFPN(WIDTHS, CHANNELS, 3, num_cells=2).cells[1].laterals
    assert not BiFPN((32, 32, 32), 32, 3).cells[0].laterals


def test_forward__weights_are_normalised_in_half_precision():
    """Set all weights below 0: the nodes return their norm's bias, not NaN."""
    neck = random_neck(num_outs=3, num_cells=1)
    for node in neck.cells[0].nodes:
        node.weights.data.fill_(-1)
    outs = neck.to(torch.bfloat16)([x.to(torch.bfloat16) for x in maps()])
    for out, number in zip(outs, (1, 2, 3), strict=True):
        bias = neck.cells[0].nodes[number].out.gn.bias
        assert torch.equal(out, bias[None, :, None, None].expand_as(out))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(kind='nas'), "one of .*, got 'nas'"),
        (dict(num_outs=2), 'num_outs=2 and 3 maps'),
        (dict(num_cells=0), 'num_cells=0'),
    ],
)
def test_init__rejects_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BiFPN(WIDTHS, CHANNELS, **kwargs)
