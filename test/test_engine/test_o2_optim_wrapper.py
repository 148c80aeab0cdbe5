# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Steps in half precision with float32 masters."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.device import get_device
from torch import nn

from mmface.engine import O2OptimWrapper
from mmface.engine.master_weights import cast_to_half
from mmface.utils.checkpoint import load_checkpoint_file

pytestmark = pytest.mark.skipif(get_device() != 'cpu', reason='an accelerator is there')

O2 = {'type': 'O2OptimWrapper', 'dtype': 'bfloat16', 'loss_scale': 128.0}
SGD = {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9}


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(6, 4)
        self.bn = nn.BatchNorm1d(4)

    def forward(self, inputs):
        return self.bn(self.fc(inputs)).float()


def _build(dtype='float16', lr=0.1, optimizer=torch.optim.SGD, **kwargs):
    net = _Net()
    cast_to_half(net, dtype)
    kwargs.setdefault('loss_scale', 128)
    return net, O2OptimWrapper(optimizer(net.parameters(), lr=lr), dtype=dtype, **kwargs)


def _state(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def _images(seed=1):
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_step__masters_get_the_unscaled_gradient_and_weights_are_rounded(dtype):
    net, wrapper = _build(dtype)
    before = _state(net)
    reference = copy.deepcopy(net)
    loss = net(_images()).square().sum(1).sigmoid().mean()
    reference_loss = reference(_images()).square().sum(1).sigmoid().mean()
    (128 * reference_loss).backward()
    wrapper.update_params(loss)
    for key, param in net.named_parameters():
        grad = reference.get_parameter(key).grad.float() / 128
        new = before[key] - 0.1 * grad
        torch.testing.assert_close(net.state_dict()[key], new, rtol=0, atol=1e-7)
        assert torch.equal(param, net.state_dict()[key].to(param.dtype))
    assert wrapper.skipped_steps == 0


def test_step__updates_below_the_resolution_of_half_add_up():
    net, wrapper = _build('bfloat16', lr=1e-4)
    weights, masters = [net.fc.weight.detach().clone()], [net.fc.weight.master.detach().clone()]
    for _ in range(3):
        wrapper.update_params(net.fc.weight.float().sum())
        weights.append(net.fc.weight.detach().clone())
        masters.append(net.fc.weight.master.detach().clone())
    expected = masters[0] - 3e-4
    torch.testing.assert_close(masters[-1], expected, rtol=0, atol=1e-7)
    assert (weights[0] == weights[1]).float().mean() > 0.5


@pytest.mark.parametrize('bad', [float('inf'), float('nan')])
@pytest.mark.parametrize('loss_scale, after', [('dynamic', 2.0**15), (64, 64.0)])
@pytest.mark.parametrize('optimizer', [torch.optim.SGD, torch.optim.Adam])
def test_step__overflow_is_skipped_and_counted(bad, loss_scale, after, optimizer):
    net, wrapper = _build(loss_scale=loss_scale, optimizer=optimizer, clip_grad={'max_norm': 1.0})
    wrapper.update_params(net(_images()).mean())
    before = _state(net)
    state = copy.deepcopy(wrapper.optimizer.state_dict())
    wrapper.update_params(net.fc.weight.float().sum() * bad)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert torch.equal(net.fc.weight, before['fc.weight'].half())
    assert str(wrapper.optimizer.state_dict()) == str(state)
    assert wrapper.loss_scaler.get_scale() == after
    assert wrapper.skipped_steps == 1
    wrapper.update_params(net(_images()).square().mean())
    assert wrapper.skipped_steps == 1
    assert not torch.equal(net.state_dict()['fc.weight'], before['fc.weight'])


def test_step__float16_overflow_of_a_real_gradient():
    net, wrapper = _build(loss_scale='dynamic')
    before = _state(net)
    wrapper.update_params((net.fc.weight.float() * 100).sum())  # 100 * 2**16 > 65504
    assert torch.equal(net.state_dict()['fc.weight'], before['fc.weight'])
    assert wrapper.skipped_steps == 1


def test_accumulation__adds_up_in_float32():
    net, wrapper = _build('bfloat16', accumulative_counts=4)
    before = net.state_dict()['fc.weight'].clone()
    for number in (256.0, 1.0, 1.0, 1.0):  # in bfloat16, 256 + 1 stays 256
        wrapper.update_params(net.fc.weight.float().sum() * number)
    moved = before - net.state_dict()['fc.weight']
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1 * 259 / 4), rtol=1e-5, atol=0)


def test_clip__limits_the_unscaled_gradient():
    net, wrapper = _build(clip_grad={'max_norm': 0.5})
    before = _state(net)
    wrapper.update_params(net.fc.weight.float().sum() * 3)
    moved = net.state_dict()['fc.weight'] - before['fc.weight']
    torch.testing.assert_close(moved.norm(), torch.tensor(0.05), rtol=1e-3, atol=0)


def test_groups__keep_their_options():
    net = _Net()
    cast_to_half(net)
    groups = [{'params': net.fc.parameters(), 'lr': 0.5}, {'params': net.bn.parameters()}]
    wrapper = O2OptimWrapper(torch.optim.SGD(groups, lr=0.1))
    first, second = wrapper.optimizer.param_groups
    assert [p is q.master for p, q in zip(first['params'], net.fc.parameters(), strict=True)]
    assert all(p is q for p, q in zip(second['params'], net.bn.parameters(), strict=True))
    assert (first['lr'], second['lr']) == (0.5, 0.1)
    assert wrapper.get_lr()['base_lr'] == [0.1]


def test_init__refuses_a_model_that_was_not_cast_and_bad_options():
    plain = torch.optim.SGD(_Net().parameters(), lr=0.1)
    with pytest.raises(ValueError, match='FaceRunner'):
        O2OptimWrapper(plain)
    net = _Net()
    cast_to_half(net, 'bfloat16')
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ValueError, match='float16 weights'):
        O2OptimWrapper(optimizer, dtype='float16')
    for scale in (0, -1.0, 'static'):
        with pytest.raises(ValueError, match='loss_scale'):
            _build(loss_scale=scale)


OPTIONS = {
    'plain': {},
    'rmsprop, dynamic': {'optimizer': {'type': 'RMSprop'}, 'loss_scale': 'dynamic'},
    'clipped groups': {
        'clip_grad': {'max_norm': 0.1},
        'optimizer': {**SGD, 'weight_decay': 0.01},
        'paramwise_cfg': {'norm_decay_mult': 0.0, 'bias_lr_mult': 2.0},
    },
    'accumulated': {'accumulative_counts': 2},
}


def _run(options, **kwargs):
    optimizer = {**SGD, **options.get('optimizer', {})}
    return {'optim_wrapper': {**O2, **options, 'optimizer': optimizer}, **kwargs}


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize('ema', [False, True], ids=['', 'ema'])
def test_train__resumed_equals_unbroken(small_run, train_and_kill, options, ema):
    hooks = {'default_hooks': {'checkpoint': {'by_epoch': False, 'interval': 2}}}
    if ema:
        hooks['default_hooks']['ema'] = {'type': 'MasterEMAHook', 'momentum': 0.01}
    unbroken = small_run('unbroken', **_run(options, **hooks))
    unbroken.train()
    train_and_kill('broken', 9, **_run(options, **hooks))
    torch.manual_seed(99)
    resumed = small_run('broken', resume=True, **_run(options, **hooks))
    resumed.train()
    a, b = unbroken.model.state_dict(), resumed.model.state_dict()
    assert unbroken.model.net[0].weight.dtype == torch.bfloat16
    for key in a:
        assert torch.equal(a[key], b[key]), key
    a, b = (str(run.optim_wrapper.state_dict()) for run in (unbroken, resumed))
    assert a == b
    if ema:
        a, b = (_hook(run, 'MasterEMAHook').ema_model.state_dict() for run in (unbroken, resumed))
        for key in a:
            assert torch.equal(a[key], b[key]), key


def _hook(runner, name):
    return next(hook for hook in runner.hooks if type(hook).__name__ == name)


def test_train__checkpoint_goes_on_in_float32_and_back(small_run):
    run = small_run('o2', epochs=1, **_run({}))
    run.train()
    path = f'{run.work_dir}/epoch_1.pth'
    saved = load_checkpoint_file(path)
    assert {v.dtype for v in saved['state_dict'].values() if v.is_floating_point()} == {
        torch.float32
    }
    for key, value in run.model.state_dict().items():
        assert torch.equal(saved['state_dict'][key], value), key
    full = small_run('full', epochs=2, resume=True, load_from=path)
    full.train()
    assert full.iter == 12
    assert type(full.optim_wrapper).__name__ == 'OptimWrapper'
    path = f'{full.work_dir}/epoch_2.pth'
    back = small_run('back', epochs=3, resume=True, load_from=path, **_run({}))
    back.train()
    assert back.iter == 18


def test_train__masters_start_from_the_float32_values(small_run):
    still = {'optimizer': {'type': 'SGD', 'lr': 0.0}}
    full = small_run('full', epochs=1, **{'optim_wrapper.optimizer': still['optimizer']})
    half = small_run('half', epochs=1, **_run(still))
    full.train()
    half.train()
    assert torch.equal(half.model.state_dict()['net.0.weight'], full.model.net[0].weight)


def test_train__ema_averages_the_masters(small_run):
    ema = {'default_hooks': {'ema': {'type': 'MasterEMAHook', 'momentum': 1e-4}}}
    run = small_run('ema', epochs=2, **_run({}, **ema))
    hook, seen = _hook(run, 'MasterEMAHook'), []
    old = hook.after_train_iter

    def spy(*args, **kwargs):
        seen.append(run.model.state_dict()['net.0.weight'].clone())
        old(*args, **kwargs)

    hook.after_train_iter = spy
    run.train()
    average = seen[0]
    for value in seen[1:]:
        average = average + 1e-4 * (value - average)
    found = hook.ema_model.module.net[0].weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, average, rtol=0, atol=1e-6)
    assert not torch.equal(found, seen[0]), 'the average stands still'
    # Validation took place and restored the weights.
    assert torch.equal(run.model.state_dict()['net.0.weight'], seen[-1])


def test_train__plain_ema_hook_is_refused(small_run):
    with pytest.raises(ValueError, match='MasterEMAHook'):
        small_run('ema', **_run({}, **{'default_hooks': {'ema': {'type': 'EMAHook'}}}))


def test_train__logs_scale_and_skipped_steps(small_run):
    hooks = {'default_hooks': {'loss_scale': {'interval': 2}}}
    run = small_run('log', epochs=1, **_run({}, **hooks))
    run.train()
    scalars = run.message_hub.log_scalars
    assert scalars['train/amp_scale'].current() == 128.0
    assert scalars['train/skipped_steps'].current() == 0
