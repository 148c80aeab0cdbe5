# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What O2 casts, and that other code does not depend on it."""

from __future__ import annotations

import importlib

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmface.engine.master_weights import (
    HALF_TYPES,
    cast_to_half,
    masters_as_weights,
    round_masters,
    weights_and_masters,
)

importlib.import_module('mmface.models')  # registers


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.gn = nn.GroupNorm(2, 4)
        self.ln = nn.LayerNorm(4)
        self.register_buffer('grid', torch.rand(4))
        self.register_buffer('count', torch.tensor(3))
        self.seen = []

    def forward(self, inputs, data_samples=None):
        for layer in (self.conv, self.bn, self.gn):
            inputs = layer(inputs)
            self.seen.append(inputs.dtype)
        return self.ln(inputs.mean((2, 3))) * self.grid, data_samples


def _types(net):
    return {name: tensor.dtype for name, tensor in (*net.named_parameters(), *net.named_buffers())}


@pytest.mark.parametrize('name', ['float16', 'bfloat16'])
def test_cast__batch_norm_and_the_norms_stay_float32(name):
    net = _Net()
    cast_to_half(net, name)
    half, full = HALF_TYPES[name], torch.float32
    types = _types(net)
    assert types.pop('count') == types.pop('bn.num_batches_tracked') == torch.int64
    assert {key for key, dtype in types.items() if dtype == half} == {
        'conv.weight', 'conv.bias', 'grid'
    }  # fmt: skip
    assert set(types.values()) == {half, full}


def test_cast__half_norms_as_apex():
    net = _Net()
    cast_to_half(net, half_norms=True)
    kept = {key for key, dtype in _types(net).items() if dtype == torch.float32}
    assert kept == {'bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var'}


@pytest.mark.parametrize('by_keyword', [False, True])
def test_cast__images_are_cast_and_samples_are_not(by_keyword):
    net = _Net()
    cast_to_half(net, 'bfloat16')
    images, boxes = torch.rand(2, 3, 8, 8), torch.tensor([1.001])
    out, samples = net(inputs=images, data_samples=boxes) if by_keyword else net(images, boxes)
    assert net.seen == [torch.bfloat16] * 3
    assert out.dtype == torch.bfloat16
    assert samples.dtype == torch.float32


def test_cast__group_norm_computes_in_float32():
    net = _Net()
    net.gn.weight.data.uniform_(0.5, 2)
    cast_to_half(net, 'bfloat16')
    x = torch.randn(2, 4, 5, 5).bfloat16()
    expected = nn.functional.group_norm(x.float(), 2, net.gn.weight, net.gn.bias).bfloat16()
    assert torch.equal(net.gn(x), expected)


def test_state_dict__is_float32_and_that_of_the_masters():
    net = _Net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    cast_to_half(net, 'bfloat16')
    after = net.state_dict()
    assert list(after) == list(before)
    for key, value in after.items():
        assert value.dtype == before[key].dtype, key
        if key != 'grid':  # a buffer has no master
            assert torch.equal(value, before[key]), key
    assert not torch.equal(net.conv.weight.float(), before['conv.weight'])


def test_load_state_dict__sets_masters_and_weights():
    net, other = _Net(), _Net()
    with torch.no_grad():
        for param in other.parameters():
            param.add_(torch.rand_like(param))
    cast_to_half(net)
    net.load_state_dict(other.state_dict())
    assert torch.equal(net.conv.weight.master, other.conv.weight)
    assert torch.equal(net.conv.weight, other.conv.weight.half())
    assert torch.equal(net.gn.weight, other.gn.weight)


def test_masters_as_weights__reads_and_writes_exact_values():
    net = _Net()
    cast_to_half(net, 'bfloat16')
    params = list(net.parameters())
    value = torch.tensor(1 + 2.0**-20)
    with masters_as_weights(net), torch.no_grad():
        assert net.conv.weight.dtype == torch.float32
        net.conv.weight.fill_(value)
    assert all(a is b for a, b in zip(params, net.parameters(), strict=True))
    assert torch.all(net.conv.weight.master == value)
    assert torch.all(net.conv.weight == 1)
    assert net.conv.weight.dtype == torch.bfloat16


def test_round_masters__after_a_change_of_the_masters():
    net = _Net()
    cast_to_half(net)
    for _, master in weights_and_masters(net):
        master.data.fill_(0.1)
    round_masters(net)
    assert torch.all(net.conv.weight == torch.tensor(0.1).half())


def test_cast__refuses_other_types_and_a_second_cast():
    net = _Net()
    with pytest.raises(ValueError, match="not 'float8'"):
        cast_to_half(net, 'float8')
    cast_to_half(net)
    with pytest.raises(ValueError, match='already'):
        cast_to_half(net)


@pytest.mark.parametrize('name', ['scrfd_10g', 'scrfd_10g_bnkps'])
def test_cast__every_parameter_of_scrfd(repo, name):
    init_default_scope('mmdet')
    model = MODELS.build(Config.fromfile(repo / f'configs/scrfd/{name}_1p_o2.py').model)
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm))]
    full = {id(param) for norm in norms for param in norm.parameters()}
    cast_to_half(model)
    assert len(norms) > 30
    for key, param in model.named_parameters():
        assert param.dtype == (torch.float32 if id(param) in full else torch.float16), key
    assert model.data_preprocessor.mean.dtype == torch.float32


@pytest.mark.parametrize('name', ['scrfd_10g', 'scrfd_500m_bnkps'])
def test_cast__raw_maps_are_float32_for_losses_and_decoding(repo, name):
    init_default_scope('mmdet')
    model = MODELS.build(Config.fromfile(repo / f'configs/scrfd/{name}.py').model).eval()
    images = torch.randn(1, 3, 64, 64)
    expected = [level for maps in model.bbox_head(model.extract_feat(images)) for level in maps]
    cast_to_half(model, 'bfloat16')
    feats = model.extract_feat(images.bfloat16())
    maps = [level for maps in model.bbox_head(feats) for level in maps]
    assert {level.dtype for level in maps} == {torch.float32}
    for level, exact in zip(maps, expected, strict=True):
        assert torch.equal(level, level.bfloat16().float()), 'not computed in bfloat16'
        torch.testing.assert_close(level, exact, rtol=0.1, atol=0.05)
