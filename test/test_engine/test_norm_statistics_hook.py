# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A training that starts from folded norms measures their statistics first."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.device import get_device
from mmengine.hooks import Hook

from helpers import REPO
from mmface.weights.folded_norms import FOLDED, folded_norms

LINE = '1 of 1 batch norms are folded (identities): their statistics were measured on 22 training'


@HOOKS.register_module(force=True)
class DoorsSnapshot(Hook):
    """Keeps what the first iteration finds."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            self.found = {k: v.clone() for k, v in runner.model.state_dict().items()}
            for hook in runner.hooks:
                if hasattr(hook, 'ema_model'):
                    self.average = {
                        k: v.clone() for k, v in hook.ema_model.module.state_dict().items()
                    }


@pytest.fixture
def folded(small_run, tmp_path):
    """Save weights whose norm is folded; returns the path and the weights."""
    torch.manual_seed(3)
    state = small_run('source').model.state_dict()
    state['net.1.bias'].normal_()
    torch.save({'state_dict': state}, tmp_path / 'folded.pth')
    return tmp_path / 'folded.pth', {key: value.clone() for key, value in state.items()}


def _log(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def _first_state(runner):
    runner.register_hook({'type': 'DoorsSnapshot'})
    runner.train()
    return next(hook for hook in runner.hooks if type(hook).__name__ == 'DoorsSnapshot')


def _evaluate(runner, state, inputs):
    runner.model.load_state_dict(state)
    with torch.no_grad():
        return torch.stack(runner.model.eval()(list(inputs)))


@pytest.mark.parametrize('way', ['load_from', 'init_cfg', 'marked'])
def test_train__statistics_come_from_the_training_data(way, small_run, folded):
    path, state = folded
    options = {'load_from': str(path)}
    if way == 'init_cfg':
        options = {'model': {'init_cfg': {'type': 'Pretrained', 'checkpoint': str(path)}}}
    if way == 'marked':
        state['net.1.bias'] *= 0  # by its values, this is a new layer
        torch.save({'state_dict': state, 'meta': {FOLDED: ['net.1']}}, path)
    runner = small_run('run', epochs=1, **options)
    found = _first_state(runner).found
    assert _log(runner).count(LINE) == 1
    assert found['net.1.running_mean'].abs().max() > 0.05
    assert torch.equal(found['net.0.weight'], state['net.0.weight'])
    inputs = torch.randn(50, 8)
    old, new = (_evaluate(runner, each, inputs) for each in (state, found))
    torch.testing.assert_close(new, old, rtol=0, atol=2e-6)


def test_train__real_statistics_and_new_layers_are_not_touched(small_run):
    first = small_run('first', epochs=1)
    first.train()  # from a new layer
    assert 'batch norms are folded' not in _log(first)
    path = f'{first.work_dir}/epoch_1.pth'
    states = []
    for name, hooks in (('with', {}), ('without', {'default_hooks.norms': None})):
        runner = small_run(name, load_from=path, **hooks)
        runner.train()
        assert 'batch norms are folded' not in _log(runner)
        states.append(runner.model.state_dict())
    for key, value in states[0].items():
        assert torch.equal(states[1][key], value), key


def test_train__random_generators_are_left_as_they_were(small_run, folded):
    def run(name, **hooks):
        runner = small_run(name, load_from=str(folded[0]), epochs=1, **hooks)
        runner.model.init_weights()
        runner.load_or_resume()
        hook = next((h for h in runner.hooks if type(h).__name__ == 'NormStatisticsHook'), None)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        random.seed(1), np.random.seed(2), torch.manual_seed(3)
        if hook is not None:
            hook.before_train(runner)
        assert folded_norms(runner.model.state_dict()) == ([] if hook else ['net.1'])
        return random.random(), np.random.rand(), torch.rand(3).tolist()

    assert run('with') == run('without', **{'default_hooks.norms': None})


def test_resume__equals_the_unbroken_run_and_measures_once(
    small_run, train_and_kill, folded, tmp_path
):
    options = {
        'load_from': str(folded[0]),
        'default_hooks.checkpoint': {'by_epoch': False, 'interval': 2},
    }
    unbroken = small_run('unbroken', **options)
    unbroken.train()
    train_and_kill('broken', 9, **options)
    torch.manual_seed(99)
    options['load_from'] = str(tmp_path / 'broken/iter_8.pth')
    resumed = small_run('resumed', **options, resume=True)
    resumed.train()
    assert LINE not in _log(resumed)
    for key, value in unbroken.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


@pytest.mark.parametrize('buffers', [False, True])
@pytest.mark.skipif(get_device() != 'cpu', reason='O2 in bfloat16')
def test_train__average_and_masters_begin_with_the_statistics(buffers, small_run, folded):
    options = {
        'optim_wrapper': {'type': 'O2OptimWrapper', 'dtype': 'bfloat16', 'loss_scale': 1.0},
        'default_hooks.ema': {'type': 'MasterEMAHook', 'update_buffers': buffers},
    }
    path, state = folded
    runner = small_run('run', epochs=1, load_from=str(path), **options)
    snapshot = _first_state(runner)
    assert snapshot.found['net.1.running_mean'].abs().max() > 0.05
    assert torch.equal(snapshot.found['net.0.weight'], state['net.0.weight'])  # float32
    for key, value in snapshot.average.items():
        assert torch.equal(snapshot.found[key], value), key


RANK = """
import sys, torch
sys.path.insert(0, {test!r})
from mmengine.config import Config
from mmengine.hooks import Hook
from mmface.apis.config import load_config, set_data_path, set_no_validation
from mmface.engine.face_runner import FaceRunner

class Stop(Hook):
    priority = 'LOWEST'
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = runner.model.module
        torch.save(model.state_dict(), f'{folder}/rank{{runner.rank}}.pth')
        raise KeyboardInterrupt

cfg = load_config('scrfd_500m_bnkps', {options!r})
set_data_path(cfg, {data!r})
set_no_validation(cfg)
cfg.update(work_dir={folder!r}, load_from={folder!r} + '/folded.pth', launcher='pytorch')
runner = FaceRunner.from_cfg(cfg)
runner.register_hook(Stop())
try:
    runner.train()
except KeyboardInterrupt:
    pass
"""


@pytest.mark.skipif(get_device() != 'cpu', reason='tests the ranks without devices')
def test_two_ranks__have_the_same_statistics(toy, tmp_path):
    from mmface.weights.convert import build_model

    model = build_model(REPO / 'configs/scrfd/scrfd_500m_bnkps.py')
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias)
    torch.save(model.state_dict(), tmp_path / 'folded.pth')
    options = {
        'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': 0,
        'train_dataloader.dataset.pipeline.2.size': 96,
        'model.data_preprocessor.pad_size': (96, 96),
    }
    script = tmp_path / 'rank.py'
    script.write_text(
        RANK.format(test=str(REPO / 'test'), options=options, data=str(toy), folder=str(tmp_path))
    )
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node']
    done = subprocess.run(
        [*command, '2', str(script)],
        cwd=REPO,
        env={**os.environ, 'PYTHONPATH': str(REPO), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert output.count('batch norms are folded (identities)') == 1
    first, second = (torch.load(tmp_path / f'rank{rank}.pth') for rank in range(2))
    assert folded_norms(first) == []
    for key, value in first.items():
        assert torch.equal(second[key], value), key
