# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Frozen stages and norms do not change in a training step."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import distributed
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from mmface.engine.master_weights import cast_to_half
from mmface.engine.o2_optim_wrapper import O2OptimWrapper
from mmface.models import DLA34, MobileNetV1, MobileNetV2Taps, Res2NetCaffe, ResNetV1e

#: How each backbone is built, its last stage, and the first modules of stem and stages 1 to 3.
LAYERS = ['layer1', 'layer2', 'layer3']
BACKBONES = {
    'mobilenet_v1': (
        lambda **kw: MobileNetV1((1, 2, 1, 1), (8, 8, 12, 16, 20, 24), **kw),
        4,
        ['stem', *LAYERS],
    ),
    'resnet_v1e': (
        lambda **kw: ResNetV1e((1, 2, 1, 1), (12, 16, 20, 24), base_channels=12, **kw),
        4,
        ['stem', *LAYERS],
    ),
    'mobilenet_v2_taps': (
        lambda **kw: MobileNetV2Taps(0.25, **kw),
        7,
        ['stem', 'stages.0', 'stages.1', 'stages.2'],
    ),
    'dla': (
        lambda **kw: DLA34(**kw),
        4,
        ['base_layer level0 level1', 'level2', 'level3', 'level4'],
    ),
    'res2net_caffe': (
        lambda **kw: Res2NetCaffe(depth=50, norm_eval=kw.pop('norm_eval', False), **kw),
        4,
        ['stem', *LAYERS],
    ),
}


def step(model, network=None, optimizer=None):
    """Train one step. Return the names of the tensors that changed."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if optimizer is None:
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        optimizer = OptimWrapper(sgd)
    dtype = next(param.dtype for param in model.parameters() if param.dim() == 4)
    outs = (network or model)(torch.randn(2, 3, 64, 64, dtype=dtype))
    optimizer.update_params(sum(out.float().square().mean() for out in outs))
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    return {name for name in changed if 'num_batches_tracked' not in name}


def tensors(model, modules):
    """Return the names of the tensors of some modules."""
    starts = tuple(f'{name}.' for part in modules for name in part.split())
    names = {name for name in model.state_dict() if 'num_batches_tracked' not in name}
    return {name for name in names if name.startswith(starts)}


@pytest.mark.parametrize('frozen', [-1, 0, 2])
@pytest.mark.parametrize('name', BACKBONES)
def test_frozen_stages__do_not_change_and_the_others_do(name, frozen):
    build, _, parts = BACKBONES[name]
    torch.manual_seed(0)
    model = build(frozen_stages=frozen)
    model.init_weights()
    model.train()
    still = tensors(model, parts[: frozen + 1])
    assert bool(still) == (frozen >= 0)
    changed = step(model)
    assert not changed & still
    moved = tensors(model, parts[frozen + 1 :])
    assert len(changed & moved) > 0.9 * len(moved)


@pytest.mark.parametrize('name', BACKBONES)
def test_norm_eval__statistics_stay_and_weights_change(name):
    model = BACKBONES[name][0](norm_eval=True)
    model.init_weights()
    for mode in (False, True):
        model.train(mode)
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        assert norms
        assert not any(norm.training for norm in norms)
    changed = step(model)
    assert not any('running' in tensor for tensor in changed)
    assert any('bn' in tensor or '.1.weight' in tensor for tensor in changed)


@pytest.mark.parametrize('name', BACKBONES)
def test_frozen_stages__all_and_too_many(name):
    build, last, _ = BACKBONES[name]
    frozen = build(frozen_stages=last)
    frozen.train()
    if name == 'dla':
        assert not any(param.requires_grad for param in frozen.parameters())
    assert not any(m.training for m in frozen.modules() if isinstance(m, _BatchNorm))
    if name != 'res2net_caffe':  # mmdet's own class
        for number in (-2, last + 1):
            with pytest.raises(ValueError, match=rf'frozen_stages .* up to {last}, not {number}'):
                build(frozen_stages=number)


@pytest.mark.parametrize('name', ['mobilenet_v1', 'resnet_v1e', 'mobilenet_v2_taps', 'dla'])
def test_frozen_stages__with_half_precision_weights(name):
    build, _, parts = BACKBONES[name]
    model = build(frozen_stages=1)
    model.init_weights()
    cast_to_half(model, 'bfloat16')
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    optimizer = O2OptimWrapper(sgd, dtype='bfloat16', loss_scale=128.0)
    model.train()
    still = tensors(model, parts[:2])
    changed = step(model, optimizer=optimizer)
    assert not changed & still
    moved = tensors(model, parts[2:])
    assert len(changed & moved) > 0.9 * len(moved)


@pytest.fixture
def process_group(tmp_path):
    distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize('name', BACKBONES)
def test_frozen_stages__in_distributed_training(name, process_group):
    """Without find_unused_parameters, a parameter without a gradient would stop the second step."""
    build, _, parts = BACKBONES[name]
    model = build(frozen_stages=1)
    network = DistributedDataParallel(model)
    network.train()
    still = tensors(model, parts[:2])
    for _ in range(2):
        assert not step(model, network) & still
