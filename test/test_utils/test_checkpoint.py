# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Reading untrusted checkpoints."""

from __future__ import annotations

import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner.checkpoint import _load_checkpoint
from torch import nn

from mmface.utils.checkpoint import (
    load_checkpoint_file,
    load_weights,
    secure_mmengine_loading,
)

OTHER = torch.ones(5)
WEIGHTS = OrderedDict(weight=torch.ones(2, 3), bias=torch.zeros(2))


def _save(path, content):
    torch.save(content, path)
    return path


def test_load__reads_what_a_run_saves(tmp_path):
    hub = MessageHub(name='test_checkpoint')
    hub.update_scalar('train/loss', 0.5)
    infos = {
        'best': np.float64(0.9),
        'small': np.float32(2),
        'count': np.int64(3),
        'flag': np.bool_(True),
        'boxes': np.arange(4, dtype=np.uint8),
        'kinds': ('face', {1, 2}),
    }
    hub.update_info_dict(infos)
    path = _save(tmp_path / 'a.pth', {'state_dict': WEIGHTS, 'message_hub': hub.state_dict()})
    loaded = load_checkpoint_file(path)['message_hub']
    assert loaded['log_scalars']['train/loss'].mean() == 0.5
    for key, value in infos.items():
        np.testing.assert_equal(loaded['runtime_info'][key], value)


def test_load__bare_weights_get_their_key(tmp_path):
    loaded = load_checkpoint_file(_save(tmp_path / 'a.pth', WEIGHTS))
    assert list(loaded) == ['state_dict']
    assert torch.equal(loaded['state_dict']['weight'], WEIGHTS['weight'])


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (torch.ones(3), 'found Tensor'),
        ({}, 'found dict'),
        ({'state_dict': {}, 'epoch': 3}, 'found dict'),
        ({'weight': torch.ones(1), 'epoch': 3}, 'epoch of its 2 entries are not tensors'),
    ],
)
def test_load__refuses_other_content(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        load_checkpoint_file(_save(tmp_path / 'a.pth', content))


@pytest.mark.parametrize('content', [b'', b'broken\n', b'PK\x03\x04 cut short', b'\x80\x02.'])
def test_load__refuses_files_that_are_no_checkpoint(tmp_path, content):
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='is not a checkpoint'):
        load_checkpoint_file(path)


class _Call:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'attack',
    [
        _Call(os.system, 'touch {mark}'),
        _Call(eval, "open('{mark}', 'w')"),
        _Call(getattr, os.system, '__self__'),
        _Call(getattr, HistoryBuffer, '__init__'),
        _Call(getattr, HistoryBuffer.mean, '__globals__'),
    ],
    ids=['system', 'eval', 'getattr', 'getattr_of_safe_class', 'globals'],
)
def test_load__refuses_code(tmp_path, attack):
    mark = tmp_path / 'executed'
    function, args = attack.call
    attack.call = function, tuple(a.format(mark=mark) if isinstance(a, str) else a for a in args)
    path = _save(tmp_path / 'a.pth', {'state_dict': WEIGHTS, 'x': attack})
    with pytest.raises(ValueError, match=r'could run code .* trust=True'):
        load_checkpoint_file(path)
    assert not mark.exists()


def test_secure_mmengine_loading__covers_mmengines_own_loader(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')  # so that it is restored
    mark = tmp_path / 'executed'
    path = _save(
        tmp_path / 'a.pth', {'state_dict': WEIGHTS, 'x': _Call(os.system, f'touch {mark}')}
    )
    secure_mmengine_loading()
    with pytest.raises(ValueError, match='trust=True'):
        _load_checkpoint(str(path))
    with pytest.raises(Exception, match='weights_only'):  # the loader of downloads
        torch.load(path, weights_only=False)
    assert not mark.exists()
    secure_mmengine_loading(trust=True)
    _load_checkpoint(str(path))
    assert mark.exists()
    secure_mmengine_loading()


def test_load_weights__fits_wrapped_names_and_module_versions():
    model = nn.Sequential(nn.BatchNorm2d(2))
    weights = OrderedDict((f'module.{k}', v + 1) for k, v in model.state_dict().items())
    del weights['module.0.num_batches_tracked']
    assert not load_weights(model, {'state_dict': weights})
    assert torch.equal(model[0].weight, torch.full((2,), 2.0))


def test_load_weights__counts_what_did_not_fit_and_shows_a_few_keys():
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(9)))
    state = {k: v + 1 for k, v in model.state_dict().items() if k.startswith('8')}
    misfit = load_weights(model, {'state_dict': {**state, 'x': torch.ones(1), '0.bias': OTHER}})
    assert len(misfit.missing) == 15
    assert misfit.unknown == ['x']
    assert list(misfit.shapes) == ['0.bias']
    text = str(misfit)
    assert text.startswith('of 18 keys 15 missing (0.weight, 1.weight, 1.bias, 2.weight and 11 ')
    assert text.endswith(
        '1 not known to the model (x); 1 of another shape (0.bias ((5,) in the file, (1,) in the '
        'model))'
    )
    assert torch.equal(model[8].bias, state['8.bias'])


def test_load__weights_of_detectron2_are_under_another_name(tmp_path):
    torch.save({'model': WEIGHTS, 'iteration': 3}, tmp_path / 'a.pth')
    content = load_checkpoint_file(tmp_path / 'a.pth')
    assert content['state_dict'].keys() == WEIGHTS.keys()
    assert content['iteration'] == 3
