# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The simulated NPU itself: as exact as the CPU, and as strict as a real device."""

from __future__ import annotations

import os
import subprocess
import sys

START = """
import copy, io, sys
import pytest, torch, torch_npu
from torch import nn
assert torch_npu.IS_SIMULATED and torch_npu.__version__ == '0+sim'

def equal(a, b):
    torch.testing.assert_close(a.detach().cpu(), b.detach().cpu(), rtol=0, atol=0)
"""


def test_tensors_and_training__equal_the_cpu(on_npu):
    on_npu(
        START
        + """
x = torch.arange(10.).npu()
assert str(x.device) == 'npu:0' and x.is_npu
assert x[x > 4].tolist() == [5, 6, 7, 8, 9]
assert x[torch.tensor([1, 2])].tolist() == [1, 2]      # indices may stay on the CPU
x[1:3] = 50
x[x == 50] = 7
x.view(2, 5)[0, 0] = 1
assert x.tolist() == [1, 7, 7, 3, 4, 5, 6, 7, 8, 9]
assert x.unfold(0, 4, 3).shape == (3, 4)
assert (x * torch.tensor(2.)).device.type == 'npu'     # a tensor without dimensions is a number
assert x.to('npu:1').device.index == 1
assert copy.deepcopy(nn.Linear(2, 2).npu()).weight.is_npu
file = io.BytesIO()
torch.save(x, file)
file.seek(0)
equal(torch.load(file, map_location='cpu'), x)
assert isinstance(x.long(), torch.npu.LongTensor) and not isinstance(x, torch.npu.BoolTensor)

# Five steps of training: parameters, running statistics and counters are equal to the last bit.
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 8, 2, 2),
    nn.BatchNorm2d(8, affine=False), nn.Conv2d(8, 8, 3, groups=4, dilation=2), nn.MaxPool2d(2),
    nn.Upsample(scale_factor=2), nn.Conv2d(8, 4, 1, bias=False))
nets = [net, copy.deepcopy(net).npu()]
optimizers = [torch.optim.SGD(n.parameters(), .05, momentum=.9, weight_decay=.01) for n in nets]
for step in range(5):
    x = torch.randn(4, 3, 32, 32)
    for net, optimizer in zip(nets, optimizers):
        net.zero_grad()
        net(x.to(next(net.parameters()).device)).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.)
        optimizer.step()
for (name, a), b in zip(nets[0].state_dict().items(), nets[1].state_dict().values()):
    assert b.is_npu, name
    equal(a, b)
assert nets[1][1].num_batches_tracked.item() == 5
for net in nets:
    net.eval()
equal(nets[0](x), nets[1](x.npu()))
"""
    )


def test_arguments_on_several_devices__raise(on_npu):
    on_npu(
        START
        + """
a, square = torch.ones(4, device='npu'), torch.ones(4, 4, device='npu')
for name, call in {
    'add': lambda: a + torch.ones(4),
    'add in place on the CPU': lambda: torch.ones(4).add_(a),
    'other device': lambda: a + torch.ones(4, device='npu:1'),
    'matmul': lambda: square @ torch.ones(4, 4),
    'where': lambda: torch.where(a > 0, a, torch.zeros(4)),
    'cat': lambda: torch.cat([a, torch.ones(4)]),
    'gather': lambda: a.gather(0, torch.zeros(2, dtype=torch.long)),
    'conv': lambda: nn.Conv2d(3, 4, 3)(torch.ones(1, 3, 8, 8, device='npu')),
    'bn': lambda: nn.BatchNorm2d(3)(torch.ones(1, 3, 8, 8, device='npu')),
    'put': lambda: a.index_put_([torch.tensor([1, 2])], torch.ones(2)),
    'index': lambda: torch.ones(4)[torch.ones(2, dtype=torch.long, device='npu')],
}.items():
    with pytest.raises(RuntimeError, match='same device|on the same device'):
        call()
        print(name, 'did not raise', file=sys.stderr)
"""
    )


def test_waits__are_counted_with_their_source(on_npu, tmp_path):
    (tmp_path / 'library.py').write_text(
        """
import torch
def read(x): return x.sum().item()
def clip(net): return torch.nn.utils.clip_grad_norm_(net, 1., error_if_nonfinite=True)
"""
    )
    on_npu(
        START
        + """
import library
from collections import Counter

def waits(call):
    with torch_npu.waits.record_waits() as found:
        call()
    return Counter({(w.kind, w.package): n for w, n in found.counts.items()})

x = torch.arange(6., device='npu', requires_grad=True)
# Work on the device, and the kernels' own use of the CPU: the host does not wait.
assert not waits(lambda: (x * 2 + x.topk(2).values.sum()).sort())
assert not waits(lambda: x.sum().backward())
assert not waits(lambda: torch.zeros(3).pin_memory().to('npu', non_blocking=True))
# Operations for which the host waits.
assert waits(lambda: library.read(x)) == {('item', 'library'): 1}
assert waits(lambda: (x.detach().cpu(), bool(x.sum() > 0))) == {
    ('copy', '__main__'): 1, ('item', '__main__'): 1}
assert waits(lambda: x[x > 2]) == waits((x > 2).nonzero) == {('nonzero', '__main__'): 1}
assert waits(lambda: (x.masked_select(x > 2), x.unique())) == {
    (op, '__main__'): 1 for op in ('masked_select', '_unique2')}
assert waits(lambda: x.detach().clone().__setitem__(x > 2, 0)) == {
    ('_index_put_impl_', '__main__'): 1}
first = torch.zeros(1, dtype=torch.long, device='npu')
assert not waits(lambda: x[first])                             # indices are not a mask
assert waits(lambda: torch.tensor([1.], device='npu')) == {('upload', '__main__'): 1}
assert waits(lambda: torch.zeros(3).pin_memory().to('npu')) == {('upload', '__main__'): 1}
# On a thread of autograd.
part = x[x > 2].sum()
assert set(waits(part.backward)) == {('_index_put_impl_', 'autograd')}
class Reads(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: x * 2)
    backward = staticmethod(lambda ctx, grad: grad * library.read(grad))
assert waits(Reads.apply(x).sum().backward) == {('item', 'library'): 1}
# The location is that of the caller. It also names the module between.
net = nn.Linear(2, 2).npu()
net(torch.ones(1, 2, device='npu')).sum().backward()
with torch_npu.waits.record_waits() as found:
    library.clip(net.parameters())
(wait,) = found.counts
assert wait == ('item', 'library', 'library:4 clip', 'torch.nn.utils.clip_grad'), wait
"""
    )


def test_amp__casts_as_cuda_and_scales_as_torch_npu(on_npu):
    on_npu(
        START
        + """
conv, x = nn.Conv2d(3, 8, 3).npu(), torch.randn(1, 3, 8, 8, device='npu')
with torch.autocast('npu'):
    y = conv(x)
    assert y.dtype == torch.float16
    assert y.softmax(1).dtype == y.sum().dtype == y.norm().dtype == torch.float32
    with pytest.raises(RuntimeError, match='unsafe to autocast'):
        nn.functional.binary_cross_entropy(y.sigmoid(), torch.zeros_like(y))
with torch.npu.amp.autocast(dtype=torch.bfloat16):
    assert conv(x).dtype == torch.bfloat16
# Half-precision products are added up in float32.
half = copy.deepcopy(conv).half()
equal(half(x.half()), nn.functional.conv2d(
    x.half().float(), half.weight.float(), half.bias.float()).half())
# Half images through float32 batch norm and back.
x = torch.randn(4, 8, 5, 5, device='npu').half().requires_grad_()
norm = nn.BatchNorm2d(8).npu()
norm(x).float().square().sum().backward()
assert x.grad.dtype == torch.float16 and norm.weight.grad.dtype == torch.float32

def train(scaler, factor):
    weight = nn.Parameter(torch.ones(3, device='npu'))
    optimizer = torch.optim.SGD([weight], .5)
    scaler.scale(weight.sum() * factor).backward()
    scaler.step(optimizer)
    scaler.update()
    return weight.tolist(), scaler.get_scale()

scaler = torch.npu.amp.GradScaler(init_scale=4., growth_interval=2)
assert train(scaler, 1.) == ([.5, .5, .5], 4.)
assert train(scaler, float('inf')) == ([1., 1., 1.], 2.)   # skipped
train(scaler, 1.)
assert train(scaler, 1.)[1] == 4.                          # two clean steps
again = torch.npu.amp.GradScaler()
again.load_state_dict(scaler.state_dict())
assert train(again, 1.) == ([.5, .5, .5], 4.)
static = torch.npu.amp.GradScaler(init_scale=4., dynamic=False)
assert train(static, float('inf')) == ([-float('inf')] * 3, 4.)   # as torch_npu: not skipped
weight = nn.Parameter(torch.ones(3, device='npu').half())
optimizer = torch.optim.SGD([weight], .5)
scaler.scale(weight.sum()).backward()
with pytest.raises(TypeError, match='FP16 gradients'):
    scaler.unscale_(optimizer)
"""
    )


def test_fused_optimizers__compute_as_the_plain_ones_and_bite(on_npu):
    on_npu(
        START
        + """
from torch_npu import optim
x = torch.randn(5, 4, device='npu')

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).npu()

def step(net, optimizer):
    net(x).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()

for fused, plain, options in [
    (optim.NpuFusedSGD, torch.optim.SGD, dict(lr=.1, momentum=.9, weight_decay=.1)),
    (optim.NpuFusedSGD, torch.optim.SGD, dict(lr=.1, momentum=.9, nesterov=True)),
    (optim.NpuFusedSGD, torch.optim.SGD, dict(lr=.1)),
    (optim.NpuFusedAdam, torch.optim.Adam, dict(lr=.1, weight_decay=.1, amsgrad=True)),
    (optim.NpuFusedAdamW, torch.optim.AdamW, dict(lr=.1)),
]:
    a, b = net(), net()
    groups = lambda n: [dict(params=[n[0].weight]), dict(params=[*n[1].parameters()], lr=.05)]
    first, second = fused(groups(a), **options), plain(groups(b), **options)
    for i in range(6):
        if i == 3:   # continues from a saved state
            state, first = copy.deepcopy(first.state_dict()), fused(groups(a), **options)
            first.load_state_dict(state)
        step(a, first)
        step(b, second)
    for p, q in zip(a.parameters(), b.parameters()):
        torch.testing.assert_close(p, q)
    assert all(p.grad is not None and not p.grad.any() for p in a[1].parameters())

SGD = optim.NpuFusedSGD
a = net()
optimizer = SGD(a.parameters(), lr=.1)
with pytest.raises(ValueError, match='set_to_none is not supported'):
    optimizer.zero_grad(set_to_none=True)
# A parameter without a gradient at the first step is never updated.
a[0](x).sum().backward()
before = a[1].weight.clone()
optimizer.step()
step(a, optimizer)
equal(a[1].weight, before)
# A gradient in new memory is ignored.
before = a[0].weight.clone()
a[0].weight.grad = torch.ones_like(before)
optimizer.step()
equal(a[0].weight, before)
# float32 and float16, each contiguous and on the NPU.
for weight, error in [
    (torch.ones(2, device='npu').bfloat16(), TypeError),
    (torch.ones(2), ValueError),
    (torch.ones(2, 3, 4, 4, device='npu').to(memory_format=torch.channels_last), RuntimeError),
]:
    weight = nn.Parameter(weight)
    weight.grad = torch.ones_like(weight)
    with pytest.raises(error, match='float32 or float16|on NPU|contiguous'):
        SGD([weight], lr=.1).step()
mixed = [nn.Parameter(torch.ones(2, device='npu', dtype=t)) for t in (torch.half, torch.float)]
sum(p.float().sum() for p in mixed).backward()
SGD(mixed, lr=.5).step()
assert [p.tolist() for p in mixed] == [[.5, .5]] * 2
# An overflow found in the combined gradients of a fused optimizer.
a = net()
optimizer, scaler = SGD(a.parameters(), lr=.1), torch.npu.amp.GradScaler(init_scale=4.)
for factor in (1., float('inf')):
    before = a[0].weight.clone()
    optimizer.zero_grad()
    scaler.scale(a(x).sum() * factor).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(before, a[0].weight) == (factor != 1)
assert scaler.get_scale() == 2.
"""
    )


def test_number_of_devices_and_memory(on_npu):
    on_npu(
        START
        + """
assert torch.npu.device_count() == 2                  # devices 0 and 2 of three
with pytest.raises(RuntimeError, match='there is no device npu:2'):
    torch.npu.set_device(2)
with torch.npu.device(1):
    x = torch.ones(1000, device='npu')
    assert x.device.index == torch.npu.current_device() == 1
assert torch.npu.current_device() == 0
assert (torch.npu.memory_allocated(), torch.npu.memory_allocated('npu:1')) == (0, 4000)
y = x * 2
del y
assert torch.npu.memory_allocated(1) == 4000 and torch.npu.max_memory_allocated(1) >= 8000
torch.npu.reset_peak_memory_stats(1)
assert torch.npu.max_memory_allocated(1) == 4000
torch.npu.synchronize()
assert torch.npu.synchronize_calls == 1
assert torch.npu.get_soc_version() == 102 and not torch_npu.npu.utils.is_support_inf_nan()
""",
        NPUSIM_DEVICES='3',
        ASCEND_RT_VISIBLE_DEVICES='0,2,7',
        NPUSIM_SOC='102',
    )


def test_short_programs__end_with_status_0(on_npu):
    """Check that autograd's threads do not use the interpreter while it shuts down."""
    for _ in range(4):
        on_npu(
            """
import torch, torch_npu
x = torch.ones(2, device='npu', requires_grad=True)
(x * 2).sum().backward()
""",
            NPUSIM_DEVICES='8',
        )


def test_no_compiler__is_said(repo, tmp_path):
    done = subprocess.run(
        [sys.executable, repo / 'test' / 'npu_sim' / 'build.py'],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, 'MMFACE_CACHE': str(tmp_path), 'CXX': 'no-such-compiler'},
    )
    assert done.returncode == 3
    assert done.stderr == "error: no C++ compiler ('no-such-compiler'; another one: set CXX)\n"


def test_stub__says_what_is_missing(npu_env):
    env = {**os.environ, **npu_env}
    del env['NPUSIM_SO']
    done = subprocess.run(
        [sys.executable, '-c', 'import torch_npu'], capture_output=True, text=True, env=env
    )
    assert 'ImportError: this torch_npu is the simulated one of mmface' in done.stderr
