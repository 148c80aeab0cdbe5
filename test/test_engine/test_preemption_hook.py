# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A run that is asked to stop saves, ends with 75 and continues as if not interrupted."""

from __future__ import annotations

import copy
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from mmface.engine import PreemptionHook
from mmface.utils.checkpoint_health import find_resume_checkpoint
from mmface.utils.cli import PREEMPTED
from mmface.utils.stop_signals import release_stop_signals, stop_reason

ITERATION_LOOP = {
    'train_cfg': {
        '_delete_': True,
        'type': 'ResumableIterTrainLoop',
        'max_iters': 18,
        'val_interval': 6,
    },
    'train_dataloader': {'batch_sampler': {'type': 'EndlessBatchSampler'}},
    'param_scheduler': [{'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'end': 8}],
    'default_hooks': {'checkpoint': {'by_epoch': False, 'interval': 100}},
}


@HOOKS.register_module(force=True)
class DoorsSignal(Hook):
    """Sends a signal to the process in an iteration."""

    def __init__(self, at, number):
        self.at = at
        self.number = number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), self.number)
            while stop_reason() is None:  # a thread records it
                time.sleep(0.001)


@pytest.fixture(autouse=True)
def _signals():
    yield
    release_stop_signals()


@pytest.fixture
def stop_at(small_run):
    def run(name, at, number=signal.SIGTERM, **kwargs):
        hook = {'type': 'DoorsSignal', 'at': at, 'number': int(number)}
        runner = small_run(name, custom_hooks=[hook], **kwargs)
        with pytest.raises(SystemExit) as end:
            runner.train()
        assert end.value.code == PREEMPTED
        release_stop_signals()  # the process would have ended
        return runner

    return run


def _train(runner):
    runner.train()
    return runner


def _validations(runner):
    return len(runner.message_hub.get_scalar('val/mean').data[0])


def _assert_equal(a, b):
    a, b = a.model.state_dict(), b.model.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize('kind', ['epochs', 'iterations'])
@pytest.mark.parametrize('at', [1, 6, 7, 18])
def test_stop__goes_on_bit_for_bit(small_run, stop_at, at, kind):
    def loop():
        return copy.deepcopy(ITERATION_LOOP) if kind == 'iterations' else {}

    unbroken = _train(small_run('unbroken', **loop()))
    stopped = stop_at('run', at, number=signal.SIGUSR1, **loop())
    work_dir = Path(stopped.work_dir)
    assert find_resume_checkpoint(work_dir) == work_dir / f'iter_{at}.pth'
    assert not (work_dir / 'training.lock').exists()
    resumed = _train(small_run('run', resume=True, **loop()))
    assert resumed.iter == unbroken.iter == 18
    _assert_equal(resumed, unbroken)
    # The same number of validations, including the one that the stop delayed.
    assert _validations(resumed) == _validations(unbroken) == 3


def test_stop__its_checkpoint_goes_when_the_run_is_over(small_run, stop_at):
    work_dir = Path(stop_at('run', 2).work_dir)
    stop_at('run', 9, resume=True)
    assert not (work_dir / 'iter_2.pth').exists()
    assert (work_dir / 'iter_9.pth').exists()
    _train(small_run('run', resume=True))
    assert sorted(path.name for path in work_dir.glob('*.pth')) == [
        'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth',
    ]  # fmt: skip


def test_stop__right_after_a_checkpoint_writes_no_other(stop_at):
    hook = {'checkpoint': {'by_epoch': False, 'interval': 1}}
    stopped = stop_at('run', 4, default_hooks=hook)
    assert stopped.message_hub.get_info('preemption_ckpt') is None
    assert find_resume_checkpoint(stopped.work_dir).name == 'iter_4.pth'


def test_stop__waits_for_a_whole_update(small_run, stop_at):
    options = {'optim_wrapper': {'accumulative_counts': 3}}
    unbroken = _train(small_run('unbroken', **options))
    stopped = stop_at('run', 4, **options)
    assert find_resume_checkpoint(stopped.work_dir).name == 'iter_6.pth'
    _assert_equal(_train(small_run('run', resume=True, **options)), unbroken)


def test_stop__when_the_minutes_are_over(small_run):
    hook = {'preemption': {'type': 'PreemptionHook', 'max_minutes': 1e-9}}
    runner = small_run('run', default_hooks=hook)
    with pytest.raises(SystemExit) as end:
        runner.train()
    assert end.value.code == PREEMPTED
    assert find_resume_checkpoint(runner.work_dir).name == 'iter_1.pth'


@pytest.mark.parametrize('minutes', [0, -1, float('nan')])
def test_max_minutes__must_be_above_0(minutes):
    with pytest.raises(ValueError, match='max_minutes must be above 0'):
        PreemptionHook(max_minutes=minutes)


def test_interrupt__says_where_to_go_on(small_run):
    @HOOKS.register_module(force=True)
    class DoorsInterrupt(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 8:
                raise KeyboardInterrupt

    runner = small_run('run', custom_hooks=[{'type': 'DoorsInterrupt'}])
    with pytest.raises(KeyboardInterrupt, match=r'continue from \S+epoch_1.pth with --resume'):
        runner.train()
