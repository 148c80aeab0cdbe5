# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Statistics of folded batch norms: found by their values, restored without another function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from helpers import config_file
from mmface.utils.checkpoint import load_checkpoint_file, save_checkpoint_file
from mmface.utils.images import write_image
from mmface.weights.convert import build_model
from mmface.weights.folded_norms import FOLDED, folded_names, folded_norms, restore_statistics

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'


@torch.no_grad()
def fold(model: nn.Module, var: float | None = None) -> nn.Module:
    """Make every batch norm an identity that adds a bias, as converters of exports do."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(1 - module.eps if var is None else var)
            nn.init.normal_(module.bias)
            nn.init.ones_(module.weight)  # SCRFD's last norms of a block begin with 0
    return model


def folded_model(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return fold(build_model(config_file(name)))


def batches(count: int = 3, size: int = 64) -> list[dict]:
    draw = torch.Generator().manual_seed(5)
    return [{'inputs': torch.randn(2, 3, size, size, generator=draw)} for _ in range(count)]


def maps(model: nn.Module, inputs: torch.Tensor, training: bool = False) -> list[torch.Tensor]:
    with torch.no_grad():
        out = model.train(training)(inputs, mode='tensor')
    return [
        level for kind in out for level in (kind if isinstance(kind, (list, tuple)) else [kind])
    ]


@pytest.mark.parametrize('name', ['scrfd_500m_bnkps', 'scrfd_500m', 'centerface_starclouds'])
def test_restore__keeps_the_evaluated_function_and_train_mode_agrees(name):
    model, (batch,) = folded_model(name), batches(1)
    before = maps(model, batch['inputs'])
    far = maps(folded_model(name), batch['inputs'], training=True)
    names = folded_norms(model.state_dict())
    assert len(names) == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert restore_statistics(model, names, [batch]) == []
    after = maps(model, batch['inputs'])
    trained = maps(model, batch['inputs'], training=True)
    for old, new, train, other in zip(before, after, trained, far, strict=True):
        scale = float(old.abs().max())
        torch.testing.assert_close(new, old, rtol=0, atol=2e-5 * scale)
        # The statistics of the batch are those that were measured.
        torch.testing.assert_close(train, old, rtol=0, atol=1e-3 * scale)
        assert not torch.allclose(other, old, rtol=0, atol=0.2 * scale)
    assert folded_norms(model.state_dict()) == []


def test_restore__composes_with_any_weight_and_statistics():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    for value in norm.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    model = _Tensor(norm)
    x = 30 + 5 * torch.randn(6, 4, 9, 9)
    old = model.eval()(x)
    restore_statistics(model, ['0'], [{'inputs': x[:1]}, {'inputs': x[1:]}])
    torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, x.var((0, 2, 3), correction=0))
    # The bound of the docstring, with |x| and |m| below 60; the kernel rounds too.
    slope = float((norm.weight / norm.running_var.sqrt()).detach().abs().max())
    assert float((model.eval()(x) - old).detach().abs().max()) <= 2**-23 * slope * 3 * 60


class _Tensor(nn.Sequential):
    def forward(self, inputs, mode='tensor'):
        return super().forward(inputs)


def test_restore__frozen_parts_stay_in_their_mode():
    model = folded_model('scrfd_500m_bnkps')
    model.backbone.eval()
    restore_statistics(model, folded_norms(model.state_dict()), batches())
    assert model.training and not model.backbone.stem[0][1].training


def test_restore__names_norms_without_input():
    model = _Tensor(nn.Identity(), nn.BatchNorm2d(3))
    model.forward = lambda inputs, mode: inputs
    assert restore_statistics(model, ['1'], batches()) == ['1']
    assert not model[1].running_mean.any()


def _state(mean=0.0, var=1.0, bias=0.5, channels=3):
    values = {'running_mean': mean, 'running_var': var, 'weight': 1.0, 'bias': bias}
    return {f'norm.{key}': torch.full((channels,), value) for key, value in values.items()}


@pytest.mark.parametrize(
    ('state', 'folded'),
    [
        (_state(), True),
        (_state(var=1 - 1e-5), True),
        (_state(var=1 - 1e-3), True),  # eps of other models
        (_state(bias=0.0), False),  # a new layer
        (_state(mean=1e-6), False),
        (_state(var=1.001), False),
        (_state(var=0.9), False),
        ({**_state(), 'norm.running_var': torch.tensor([1, 1, 0.999])}, False),
        ({k: v for k, v in _state().items() if 'running' not in k}, False),  # group norm
        ({}, False),
    ],
)
def test_folded_norms__are_told_by_their_values(state, folded):
    assert folded_norms(state) == (['norm'] if folded else [])


def test_folded_norms__marked_ones_may_have_no_bias():
    first = _state()
    state = {**first, **{key.replace('norm', 'other'): v for key, v in _state(bias=0.0).items()}}
    assert folded_norms(state) == ['norm']
    assert folded_norms(state, ['other', 'unknown']) == ['norm', 'other']
    assert folded_names(state) == ['norm', 'other']
    assert folded_names(_state(bias=0.0)) == []


@pytest.fixture
def images(tmp_path):
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (80, 64, 3), np.uint8)
        write_image(tmp_path / 'images' / f'{number}.png', noise)
    return tmp_path / 'images'


def test_convert__marks_folded_norms_and_calibrates(door, images, tmp_path):
    model = folded_model('scrfd_500m_bnkps')
    save_checkpoint_file(tmp_path / 'in.pth', {'state_dict': model.state_dict()})

    def convert(source, target, *options):
        done = door(
            'tools/weights/convert.py', source, tmp_path / target, '--config', CONFIG, *options
        )
        return done.stdout, load_checkpoint_file(tmp_path / target)

    text, plain = convert(tmp_path / 'in.pth', 'plain.pth')
    norms = [name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert plain['meta'][FOLDED] == norms
    assert f'note: {len(norms)} batch norms are folded: a training from this file' in text
    text, restored = convert(tmp_path / 'plain.pth', 'restored.pth', '--calibrate', images)
    assert 'statistics of its folded batch norms were measured on 3 images' in text
    assert restored['meta'][FOLDED] == []
    assert restored['meta']['calibration_images'] == 3
    assert folded_norms(restored['state_dict']) == []
    other = build_model(config_file('scrfd_500m_bnkps'))
    other.load_state_dict(restored['state_dict'])
    (batch,) = batches(1)
    for new, old in zip(maps(other, batch['inputs']), maps(model, batch['inputs']), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=2e-5 * float(old.abs().max()))
    text, again = convert(tmp_path / 'restored.pth', 'again.pth', '--calibrate', images)
    assert 'no batch norm is folded: --calibrate changes nothing' in text
    for key, value in restored['state_dict'].items():
        assert torch.equal(again['state_dict'][key], value), key


def test_convert__folder_without_images_is_refused(door, tmp_path):
    model = folded_model('scrfd_500m_bnkps')
    save_checkpoint_file(tmp_path / 'in.pth', {'state_dict': model.state_dict()})
    done = door(
        'tools/weights/convert.py', tmp_path / 'in.pth', tmp_path / 'o.pth', '--config', CONFIG,
        '--calibrate', tmp_path, ok=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith('error: no image (')
    assert not (tmp_path / 'o.pth').exists()


@pytest.mark.reference
@pytest.mark.parametrize(
    'file', ['scrfd_500m_bnkps.onnx', 'scrfd_500m_bnkps_folded.pth', 'scrfd_2.5g_bnkps_folded.pth']
)
def test_published__are_recognised(file, reference_dir, door, tmp_path):
    source = reference_dir / 'data/scrfd/weights' / file
    door('tools/weights/convert.py', source, tmp_path / 'o.pth')
    found = load_checkpoint_file(tmp_path / 'o.pth')
    norms = [key for key in found['state_dict'] if key.endswith('.running_mean')]
    assert len(found['meta'][FOLDED]) == len(norms) > 30
