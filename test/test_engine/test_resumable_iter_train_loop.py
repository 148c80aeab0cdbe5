# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""An interrupted and resumed run of iterations equals the uninterrupted one, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from helpers import assert_same_tensors, seed_all, state_of

ITERS = 16  # of 4 samples; an epoch has 22
SAMPLERS = {
    'endless': {
        'sampler': {'_delete_': True, 'type': 'EpochIndexSampler'},
        'batch_sampler': {'type': 'EndlessBatchSampler'},
    },
    'epochs': {'sampler': {'_delete_': True, 'type': 'EpochIndexSampler'}},
    'infinite': {'sampler': {'_delete_': True, 'type': 'InfiniteSampler'}},
}


@HOOKS.register_module(force=True)
class DoorsInputs(Hook):
    """Records the inputs of the model, and when it was validated."""

    def __init__(self):
        self.inputs, self.validated = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.inputs.append(torch.stack(data_batch['inputs'])[:, 0].tolist())

    def before_val(self, runner):
        self.validated.append(runner.iter)


@pytest.fixture
def options():
    """Return a function that builds the overrides of an iteration run with one of the samplers."""

    def make(kind='endless', **more):
        overrides = {
            'train_cfg': {
                '_delete_': True, 'type': 'ResumableIterTrainLoop', 'max_iters': ITERS,
                'val_interval': 6,
            },
            'param_scheduler': [
                {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'end': 8},
                {'type': 'MultiStepLR', 'by_epoch': False, 'milestones': [10], 'gamma': 0.3},
            ],
            'train_dataloader': copy_of(SAMPLERS[kind]),
            'log_processor': {'by_epoch': False},
            'default_hooks': {'checkpoint': {'by_epoch': False, 'interval': 1}},
        }  # fmt: skip
        return {**overrides, **more}

    return make


def copy_of(value):
    return json.loads(json.dumps(value))


def _train(runner, *, hook=False):
    if hook:
        runner.register_hook(DoorsInputs())
    runner.train()
    return runner


@pytest.mark.parametrize(
    ('kind', 'kill_at'), [('endless', 1), ('endless', 6), ('endless', 15), ('epochs', 8)]
)
def test_run__resumed_equals_unbroken(small_run, train_and_kill, options, kind, kill_at):
    """Check all samplers; a kill at iteration 6 comes before the validation that follows it."""
    unbroken = _train(small_run('unbroken', **options(kind)))
    train_and_kill('broken', kill_at, **options(kind))
    seed_all(99)
    resumed = _train(small_run('broken', resume=True, **options(kind)))
    assert resumed.iter == unbroken.iter == ITERS
    assert_same_tensors(state_of(resumed), state_of(unbroken))


def test_run__resumed_twice_with_other_worker_counts(small_run, train_and_kill, options):
    unbroken = _train(small_run('unbroken', **options()))
    train_and_kill('broken', 4, workers=2, **options())
    train_and_kill('broken', 9, workers=1, resume=True, **options())
    resumed = _train(small_run('broken', workers=2, resume=True, **options()))
    assert_same_tensors(state_of(resumed), state_of(unbroken))


def test_run__loads_nothing_it_has_trained_on(small_run, train_and_kill, options):
    train_and_kill('broken', 10, **options())
    resumed = _train(small_run('broken', resume=True, **options()), hook=True)
    hook = next(hook for hook in resumed.hooks if isinstance(hook, DoorsInputs))
    unbroken = _train(small_run('unbroken', **options()), hook=True)
    every = next(hook for hook in unbroken.hooks if isinstance(hook, DoorsInputs))
    assert hook.inputs == every.inputs[10:]
    assert every.validated == [6, 12, 16]
    assert all(len(batch) == 4 for batch in every.inputs)  # also the last batch of an epoch
    assert len({tuple(batch) for batch in every.inputs}) == ITERS


def test_run__seed_drawn_by_the_first_run_is_used_again(small_run, train_and_kill, options):
    train_and_kill('broken', 5, seed=None, **options())
    resumed = _train(small_run('broken', seed=None, resume=True, **options()))
    unbroken = _train(small_run('unbroken', seed=resumed.seed, **options()))
    assert_same_tensors(state_of(resumed), state_of(unbroken))


def test_run__another_sampler_resumes_at_the_right_iteration(small_run, train_and_kill, options):
    train_and_kill('broken', 8, **options('infinite'))
    resumed = _train(small_run('broken', resume=True, **options('infinite')), hook=True)
    hook = next(hook for hook in resumed.hooks if isinstance(hook, DoorsInputs))
    assert (resumed.iter, len(hook.inputs)) == (ITERS, ITERS - 8)


def test_run__other_batch_size_is_said(small_run, train_and_kill, options):
    train_and_kill('broken', 8, **options())
    loader = {**copy_of(SAMPLERS['endless']), 'batch_size': 11}
    resumed = _train(small_run('broken', resume=True, **options(train_dataloader=loader)))
    assert resumed.iter == ITERS
    text = next(Path(resumed.log_dir).glob('*.log')).read_text()
    assert '[4, 1] and not [11, 1]: continuing with iteration 9' in text
    other = _train(small_run('same', **options()))
    assert 'continuing with' not in next(Path(other.log_dir).glob('*.log')).read_text()


def test_run__stops_early_if_a_hook_says_so(small_run, options):
    class Stop(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            runner.train_loop.stop_training = runner.iter + 1 == 3

    runner = small_run('run', **options())
    runner.register_hook(Stop())
    assert _train(runner).iter == 3
