# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""An interrupted and resumed run equals the uninterrupted one, bit for bit."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from helpers import assert_same_tensors, seed_all, state_of
from mmface.engine.resumable_epoch_train_loop import seed_iteration
from mmface.utils.seeding import derive_seed

BATCHES = 6  # per epoch, see conftest


def _train(runner):
    runner.train()
    return runner


@pytest.mark.parametrize('kill_at', [1, 5, 6, 7, 12, 16])
@pytest.mark.parametrize('by_epoch', [False, True], ids=['iteration', 'epoch'])
def test_run__resumed_equals_unbroken(small_run, train_and_kill, kill_at, by_epoch):
    unbroken = _train(small_run('unbroken'))
    # Iteration 12 ends an epoch: the run is killed before the epoch's hooks and validation.
    hook = {'by_epoch': by_epoch, 'interval': 1}
    train_and_kill('broken', kill_at, default_hooks={'checkpoint': hook})
    seed_all(99)
    resumed = small_run('broken', resume=True)
    _train(resumed)
    assert (resumed.epoch, resumed.iter) == (unbroken.epoch, unbroken.iter) == (3, 18)
    assert_same_tensors(state_of(resumed), state_of(unbroken))


def test_run__resumed_twice_with_other_worker_counts(small_run, train_and_kill):
    unbroken = _train(small_run('unbroken'))
    hook = {'checkpoint': {'by_epoch': False, 'interval': 1}}
    train_and_kill('broken', 4, workers=2, default_hooks=hook)
    train_and_kill('broken', 9, workers=1, resume=True, default_hooks=hook)
    resumed = _train(small_run('broken', workers=2, resume=True))
    assert_same_tensors(state_of(resumed), state_of(unbroken))


def test_run__seed_drawn_by_the_first_run_is_used_again(small_run, train_and_kill):
    hook = {'checkpoint': {'by_epoch': False, 'interval': 5}}
    train_and_kill('broken', 5, seed=None, default_hooks=hook)
    resumed = _train(small_run('broken', seed=None, resume=True))
    unbroken = _train(small_run('unbroken', seed=resumed.seed))
    assert_same_tensors(state_of(resumed), state_of(unbroken))


def test_run__seeds_give_different_weights(small_run):
    a, b = (_train(small_run(f's{seed}', epochs=1, seed=seed)) for seed in (1, 2))
    assert not torch.equal(a.model.net[0].weight, b.model.net[0].weight)


def test_run__log_of_a_resumed_epoch_counts_on(small_run, train_and_kill):
    hooks = {'checkpoint': {'by_epoch': False, 'interval': 1}, 'logger': {'interval': 1}}
    train_and_kill('broken', 8, default_hooks=hooks)
    time.sleep(1)  # the names of log folders have a resolution of one second
    resumed = _train(small_run('broken', resume=True, default_hooks=hooks))
    scalars = Path(resumed.log_dir) / 'vis_data' / 'scalars.json'
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    steps = [row['step'] for row in rows if 'loss' in row]
    assert steps == list(range(9, 19))
    text = next(Path(resumed.log_dir).glob('*.log')).read_text()
    assert 'Epoch(train) [2][3/6]' in text
    assert 'Epoch(train) [2][2/6]' not in text


def test_run__other_batch_size_begins_the_epoch_anew(small_run, train_and_kill, caplog):
    hook = {'checkpoint': {'by_epoch': False, 'interval': 1}}
    train_and_kill('broken', 8, default_hooks=hook)
    resumed = small_run('broken', resume=True, train_dataloader={'batch_size': 11})
    _train(resumed)
    assert (resumed.epoch, resumed.iter) == (3, 6)  # 3 epochs of 2 batches
    text = next(Path(resumed.log_dir).glob('*.log')).read_text()
    assert 'at the beginning of epoch 2' in text


def test_run__another_sampler_resumes_at_the_right_batch(small_run, train_and_kill):
    sampler = {'train_dataloader': {'sampler': {'type': 'DefaultSampler', '_delete_': True}}}
    hook = {'checkpoint': {'by_epoch': False, 'interval': 1}}
    train_and_kill('broken', 8, default_hooks=hook, **sampler)
    resumed = _train(small_run('broken', resume=True, **sampler))
    assert (resumed.epoch, resumed.iter) == (3, 18)


def test_seed_iteration__generators_of_torch_get_the_seed_of_manual_seed():
    seed_iteration(3, 5, 1)
    drawn = torch.rand(4)
    torch.manual_seed(derive_seed(3, 5, 1))
    assert drawn.equal(torch.rand(4))
    seed_iteration(3, 6, 1)
    assert not drawn.equal(torch.rand(4))
