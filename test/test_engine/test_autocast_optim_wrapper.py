# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Mixed precision without an accelerator."""

from __future__ import annotations

import pytest
import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.device import get_device
from torch import nn

from mmface.engine import AutocastOptimWrapper

AMP = {'optim_wrapper': {'type': 'AutocastOptimWrapper', 'loss_scale': 'dynamic'}}


def _build(**kwargs):
    net = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    cfg = {'type': 'AutocastOptimWrapper', 'optimizer': optimizer, **kwargs}
    return net, OPTIM_WRAPPERS.build(cfg)


@pytest.mark.skipif(get_device() != 'cpu', reason='an accelerator is there')
@pytest.mark.parametrize('loss_scale', ['dynamic', 128, {'init_scale': 8.0}])
def test_cpu__computes_in_bfloat16_with_float32_weights(loss_scale):
    net, wrapper = _build(loss_scale=loss_scale, clip_grad={'max_norm': 1.0})
    assert type(wrapper) is AutocastOptimWrapper
    before = net.weight.detach().clone()
    with wrapper.optim_context(net):
        out = net(torch.ones(2, 4))
    assert out.dtype == torch.bfloat16
    loss = out.float().square().mean()
    (expected,) = torch.autograd.grad(loss, [net.weight], retain_graph=True)
    wrapper.update_params(loss)
    assert net.weight.dtype == torch.float32
    norm = (expected.square().sum() + (out.float() / 4).sum(0).square().sum()).sqrt()
    step = 0.1 * expected * torch.clamp(1 / norm, max=1.0)
    torch.testing.assert_close(before - net.weight, step, rtol=2e-2, atol=1e-4)
    wrapper.load_state_dict(wrapper.state_dict())


def test_train__amp_run_resumes_exactly(small_run, train_and_kill):
    unbroken = small_run('unbroken', **AMP)
    unbroken.train()
    hook = {'checkpoint': {'by_epoch': False, 'interval': 1}}
    train_and_kill('broken', 8, default_hooks=hook, **AMP)
    resumed = small_run('broken', resume=True, **AMP)
    resumed.train()
    assert torch.equal(resumed.model.net[0].weight, unbroken.model.net[0].weight)
