# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""NaN and infinity do not reach weights, statistics or checkpoints, in any precision."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from mmface.engine.hooks.non_finite_hook import NOT_FINITE, NonFiniteHook
from mmface.utils.checkpoint import load_checkpoint_file
from mmface.utils.checkpoint_health import find_resume_checkpoint

ITERATIONS = 6  # per epoch
PRECISIONS = {
    'float32': {'type': 'OptimWrapper'},
    'O1': {'type': 'AutocastOptimWrapper', 'loss_scale': 'dynamic'},
    'O2': {'type': 'O2OptimWrapper', 'loss_scale': 128.0},
    'O2 bfloat16': {'type': 'O2OptimWrapper', 'loss_scale': 'dynamic', 'dtype': 'bfloat16'},
}


@HOOKS.register_module(force=True)
class DoorsPoison(Hook):
    """Writes a value into the images of some iterations and validations; records the state."""

    priority = 'LOW'

    def __init__(self, iterations=(), value=math.nan, validations=(), weight_at=None):
        self.iterations, self.value = set(iterations), value
        self.validations, self.weight_at = set(validations), weight_at
        self.changed = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = copy.deepcopy(runner.model.state_dict())
        if runner.iter + 1 in self.iterations:
            data_batch['inputs'][0].fill_(self.value)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        after = runner.model.state_dict()
        self.changed[runner.iter + 1] = [
            key for key, value in self.before.items() if not torch.equal(value, after[key])
        ]
        if runner.iter + 1 == self.weight_at:
            next(runner.model.parameters()).data.fill_(math.nan)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch in self.validations:
            data_batch['inputs'][0].fill_(self.value)


@pytest.fixture
def poisoned(small_run):
    """Return ``poisoned(name, poison, ...)``: it gives the runner and its ``DoorsPoison``."""

    def make(name='run', poison=None, precision='float32', guard=None, checkpoint=None, **kwargs):
        wrapper = {**PRECISIONS[precision], 'optimizer': {'momentum': 0.0}}
        runner = small_run(
            name,
            optim_wrapper=wrapper,
            custom_hooks=[{'type': 'DoorsPoison', **(poison or {})}],
            default_hooks={'non_finite': guard or {}, 'checkpoint': checkpoint or {}},
            **kwargs,
        )
        return runner, next(hook for hook in runner.hooks if isinstance(hook, DoorsPoison))

    return make


def log_of(runner) -> str:
    return next(Path(runner.work_dir).glob('*/*.log')).read_text()


def is_finite(state) -> bool:
    return all(value.isfinite().all() for value in state.values() if value.is_floating_point())


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('at', [2, 50])
@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_bad_step__changes_nothing_and_is_named(poisoned, precision, at, value):
    runner, poison = poisoned(poison=dict(iterations=[at], value=value), precision=precision,
                              epochs=9)  # fmt: skip
    runner.train()
    assert is_finite(runner.model.state_dict())
    # Without momentum and decay, gradients of zero change nothing.
    assert poison.changed[at] == ['net.1.num_batches_tracked']
    assert len(poison.changed[at + 1]) > 3
    assert runner.message_hub.get_info('not_finite_steps') == 1
    text = log_of(runner)
    assert f'iteration {at}: ' in text
    assert text.count('the loss is not finite') == 1
    assert 'loss = nan' in text
    last = load_checkpoint_file(find_resume_checkpoint(runner.work_dir))
    assert is_finite(last['state_dict'])


@pytest.mark.parametrize('precision', PRECISIONS)
def test_good_steps__are_the_same_to_the_bit(poisoned, precision):
    guarded, _ = poisoned('with', precision=precision)
    guarded.train()
    plain, _ = poisoned('without', precision=precision)
    plain.hooks[:] = [hook for hook in plain.hooks if not isinstance(hook, NonFiniteHook)]
    plain.train()
    with_guard, without = guarded.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(value, without[key]) for key, value in with_guard.items())


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('interval', [1, 2, 10])
def test_bad_steps_in_a_row__stop_with_status_3(poisoned, precision, interval):
    first = ITERATIONS + 2
    runner, _ = poisoned(
        poison=dict(iterations=range(first, 99)),
        precision=precision,
        guard=dict(max_in_row=4, interval=interval),
        epochs=9,
    )
    with pytest.raises(SystemExit) as stopped:
        runner.train()
    assert stopped.value.code == NOT_FINITE == 3
    # All steps of the epoch are read at its end.
    assert first + 2 <= runner.iter <= min(first + 2 + 2 * interval, 2 * ITERATIONS)
    assert find_resume_checkpoint(runner.work_dir) == Path(runner.work_dir) / 'epoch_1.pth'
    assert 'status 3' in log_of(runner)
    assert is_finite(runner.model.state_dict())


def test_bad_steps_with_good_ones_between__go_on(poisoned):
    runner, _ = poisoned(
        poison=dict(iterations=range(2, 99, 2)), guard=dict(max_in_row=2, interval=4)
    )
    runner.train()
    assert runner.iter == 3 * ITERATIONS
    assert runner.message_hub.get_info('not_finite_steps') == 9


def test_count__goes_on_after_a_resume(poisoned):
    poisoned(poison=dict(iterations=[3]), epochs=1)[0].train()
    runner, _ = poisoned(poison=dict(iterations=[9]), epochs=2, resume=True)
    runner.train()
    assert runner.message_hub.get_info('not_finite_steps') == 2


@pytest.mark.parametrize('value', [math.nan, math.inf])
@pytest.mark.parametrize('rule', ['greater', 'less'])
@pytest.mark.parametrize('precision', PRECISIONS)
def test_validation__that_is_not_finite_is_never_the_best(poisoned, value, rule, precision):
    if rule == 'less':
        value = -value
    runner, _ = poisoned(
        poison=dict(validations=[1, 3], value=value),
        precision=precision,
        checkpoint={'save_best': 'mean', 'rule': rule},
    )
    runner.train()
    assert math.isfinite(runner.message_hub.get_info('best_score'))
    (best,) = Path(runner.work_dir).glob('best*.pth')
    assert best.name == 'best_mean_epoch_2.pth'
    assert is_finite(load_checkpoint_file(best)['state_dict'])
    assert 'not_finite_steps' not in runner.message_hub.runtime_info


@pytest.mark.parametrize('hook', [None, 'MasterEMAHook'])
@pytest.mark.parametrize('precision', ['float32', 'O2'])
def test_weights_that_are_not_finite__replace_no_checkpoint(poisoned, precision, hook):
    runner, _ = poisoned(
        poison=dict(weight_at=8),
        precision=precision,
        checkpoint={'save_best': 'mean', 'rule': 'greater', 'max_keep_ckpts': 1},
    )
    if hook:
        runner.register_custom_hooks([dict(type=hook)])
    if precision == 'O2':  # the masters are saved
        poison = runner.hooks[0]
        poison.after_train_iter = lambda runner, *_, **__: (
            next(runner.model.parameters()).master.data.fill_(math.nan) if runner.iter == 7 else 0
        )
    runner.train()
    assert find_resume_checkpoint(runner.work_dir) == Path(runner.work_dir) / 'epoch_1.pth'
    saved = sorted(path.name for path in Path(runner.work_dir).glob('*.pth'))
    assert saved == ['best_mean_epoch_1.pth', 'epoch_1.pth']
    for name in saved:
        assert is_finite(load_checkpoint_file(Path(runner.work_dir) / name)['state_dict'])
    assert 'no checkpoint is saved' in log_of(runner)


def test_averaged_weights_that_are_not_finite__are_not_saved(poisoned):
    runner, _ = poisoned(checkpoint={'save_best': 'mean', 'rule': 'greater'})
    runner.register_custom_hooks([dict(type='EMAHook')])
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    ema.after_train_iter = lambda *_, **__: next(ema.ema_model.parameters()).data.fill_(math.nan)
    runner.train()
    assert not list(Path(runner.work_dir).glob('*.pth'))


def test_bad_step__is_not_averaged(poisoned):
    runner, _ = poisoned(poison=dict(iterations=[2, 9]), precision='O2')
    runner.register_custom_hooks([dict(type='MasterEMAHook', update_buffers=True)])
    runner.train()
    checkpoint = load_checkpoint_file(find_resume_checkpoint(runner.work_dir))
    assert is_finite(checkpoint['state_dict'])
    assert is_finite(checkpoint['ema_state_dict'])


@pytest.mark.parametrize('argument', ['max_in_row', 'interval'])
def test_arguments__are_checked(argument):
    with pytest.raises(ValueError, match='1 or more'):
        NonFiniteHook(**{argument: 0})
