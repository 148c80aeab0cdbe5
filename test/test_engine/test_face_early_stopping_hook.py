# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A training stops if its validation does not improve, also across a resume."""

from __future__ import annotations

import pytest

HOOK = {'type': 'FaceEarlyStoppingHook', 'monitor': 'mean', 'min_delta': 10.0, 'patience': 3}


def hooks(**options):
    return {'default_hooks': {'early_stopping': {**HOOK, **options}}}


def test_train__stops_after_the_patience(small_run):
    runner = small_run('run', epochs=9, **hooks())
    runner.train()
    # The first validation is the best so far. Three without an improvement follow.
    assert runner.epoch == 4


def test_train__small_gains_of_an_ap_count(small_run):
    """mmengine's own hook would stop: its default is 0.1."""
    runner = small_run('run', epochs=1, **hooks(min_delta=0.001))
    (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == HOOK['type'])
    for ap in (0.30, 0.31, 0.32, 0.33, 0.34, 0.35):
        hook.after_val_epoch(runner, {'mean': ap})
    assert hook.wait_count == 0


def test_resume__goes_on_counting(small_run):
    small_run('run', epochs=3, **hooks()).train()
    resumed = small_run('run', epochs=9, resume=True, **hooks())
    resumed.train()
    # Its checkpoint was written before the third validation. mmengine's hook would need 7.
    assert resumed.epoch == 5


def test_monitor__is_that_of_save_best(small_run):
    options = hooks(monitor=None)
    options['default_hooks']['checkpoint'] = {'save_best': 'mean', 'rule': 'greater'}
    runner = small_run('run', epochs=9, **options)
    runner.train()
    assert runner.epoch == 4
    with pytest.raises(ValueError, match='set monitor, or save_best'):
        small_run('other', epochs=1, **hooks(monitor=None)).train()


def test_test__needs_no_training_data(small_run):
    runner = small_run(
        'run',
        train_dataloader={'dataset': {'type': 'NoSuchDataset'}},
        test_dataloader={
            'batch_size': 4,
            'num_workers': 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'dataset': {
                'type': 'DoorsNumbers',
                'pipeline': [{'type': 'SeedSample'}, {'type': 'DoorsNoise'}],
            },
        },
        test_cfg={'type': 'TestLoop'},
        test_evaluator={'type': 'DoorsMean'},
        **hooks(),
    )
    assert 'mean' in runner.test()
    assert 'mean' in runner.val()
