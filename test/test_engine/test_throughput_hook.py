# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Images per second, compared with runs of known duration."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from mmface.engine.hooks import throughput_hook
from mmface.engine.hooks.throughput_hook import ThroughputHook

SAMPLES, BATCHES = 22, 6  # see conftest: batches of 4, the last one of 2
SLOW = 0.5  # seconds that must not be counted; longer than everything else not counted
STEP = 0.02  # seconds that must be counted


@HOOKS.register_module(force=True)
class DoorsSleep(Hook):
    """Slows down the parts of a run that the throughput must not include."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        first = runner.iter % BATCHES == 0
        time.sleep(SLOW if first else STEP)

    def before_val_epoch(self, runner):
        time.sleep(SLOW)

    def after_val_epoch(self, runner, metrics=None):
        time.sleep(SLOW)

    def before_save_checkpoint(self, runner, checkpoint):
        time.sleep(SLOW)  # with the lowest priority this is part of writing the checkpoint


def _hooks(warmup, **checkpoint):
    return {
        'default_hooks': {
            'throughput': {'type': 'ThroughputHook', 'warmup': warmup},
            'checkpoint': checkpoint or {'interval': -1, 'save_last': False},
        }
    }


def _train(runner):
    start = time.perf_counter()
    runner.train()
    return time.perf_counter() - start


def _report(runner):
    return json.loads((Path(runner.work_dir) / 'throughput.json').read_text())


def _lines(runner):
    text = next(Path(runner.log_dir).glob('*.log')).read_text()
    return re.findall(r'Throughput: .*', text)


def _check_sums(report):
    """Check that the totals are the sums of all epochs, and that rates are ratios."""
    for key in ('iterations', 'images', 'seconds'):
        assert report[key] == pytest.approx(sum(epoch[key] for epoch in report['epochs']))
    for entry in (report, *report['epochs']):
        assert entry['images_per_second'] == pytest.approx(entry['images'] / entry['seconds'])
        assert entry['seconds_per_iteration'] == pytest.approx(
            entry['seconds'] / entry['iterations']
        )


def test_epochs__without_warmup_validation_and_checkpoints(small_run):
    """Check that the last 4 of each epoch's 6 batches count: 3 of 4 images and 1 of 2."""
    runner = small_run(
        'run',
        epochs=2,
        custom_hooks=[{'type': 'DoorsSleep', 'priority': 'LOWEST'}],
        **_hooks(2, by_epoch=False, interval=4),
    )
    wall = _train(runner)
    report = _report(runner)
    _check_sums(report)
    assert [e['epoch'] for e in report['epochs']] == [1, 2]
    assert [(e['iterations'], e['images']) for e in report['epochs']] == [(4, 14), (4, 14)]
    # Not counted: first iterations, both ends of validations, checkpoints.
    assert 8 * STEP <= report['seconds'] <= wall - (2 + 2 * 2 + 3) * SLOW
    assert (report['world_size'], report['batch_size_per_card']) == (1, 4)
    assert (report['warmup_left_out'], report['device']) == (2, 'cpu')
    scalar = runner.message_hub.get_scalar('train/throughput').data
    assert list(scalar[0]) == [e['images_per_second'] for e in report['epochs']]
    lines = _lines(runner)
    assert len(lines) == 2
    assert lines[1].startswith(f'Throughput: {scalar[0][1]:.1f} images/s (14 images, 4 iterations')


def test_iterations__one_epoch_interrupted_by_validation(small_run):
    """Check that 11 of 13 iterations of an iteration loop count, with endless images."""
    runner = small_run(
        'run',
        train_cfg={
            '_delete_': True, 'type': 'IterBasedTrainLoop', 'max_iters': 13, 'val_interval': 5,
        },
        train_dataloader={'sampler': {'_delete_': True, 'type': 'InfiniteSampler'}},
        param_scheduler=[],
        log_processor={'by_epoch': False},
        custom_hooks=[{'type': 'DoorsSleep', 'priority': 'LOWEST'}],
        **_hooks(2, by_epoch=False, interval=6),
    )  # fmt: skip
    wall = _train(runner)
    report = _report(runner)
    _check_sums(report)
    assert (report['iterations'], report['images'], len(report['epochs'])) == (11, 44, 1)
    # Of the slow iterations 0, 6 and 12, the last two count.
    assert 2 * SLOW + 9 * STEP <= report['seconds'] <= wall - (1 + 3 * 2 + 3) * SLOW
    assert len(_lines(runner)) == 1


def test_epochs_too_short_for_a_warmup__count_entirely_and_say_so(small_run):
    runner = small_run('run', epochs=2, **_hooks(BATCHES))
    runner.train()
    report = _report(runner)
    _check_sums(report)
    assert (report['iterations'], report['images']) == (2 * BATCHES, 2 * SAMPLES)
    assert report['warmup_left_out'] == 0
    (line,) = _lines(runner)
    assert 'warm-up included, as no epoch has more than 6 iterations' in line


def test_no_warmup__counts_everything(small_run):
    runner = small_run('run', epochs=1, **_hooks(0))
    runner.train()
    assert (_report(runner)['images'], _report(runner)['warmup_left_out']) == (SAMPLES, 0)
    assert len(_lines(runner)) == 1


def test_accumulated_gradients__an_iteration_is_a_batch(small_run):
    runner = small_run('run', epochs=1, optim_wrapper={'accumulative_counts': 3}, **_hooks(1))
    runner.train()
    assert (_report(runner)['iterations'], _report(runner)['images']) == (5, 18)


def test_aborted_and_resumed(small_run, train_and_kill):
    """Check that the first run keeps its full epochs, and the resumed run skips the partial one."""
    hooks = _hooks(2, by_epoch=False, interval=1)
    train_and_kill('run', 11, **hooks)
    resumed = small_run('run', resume=True, **hooks)
    assert [e['epoch'] for e in _report(resumed)['epochs']] == [1]
    resumed.train()  # one iteration of epoch 2, then epoch 3
    report = _report(resumed)
    _check_sums(report)
    assert [(e['epoch'], e['iterations']) for e in report['epochs']] == [(3, 4)]
    # Nothing remains to be trained: the measured values are kept.
    small_run('run', resume=True, **hooks).train()
    assert _report(resumed) == report


def test_full_disk__does_not_end_the_training(small_run):
    runner = small_run('run', epochs=1, **_hooks(1))
    (Path(runner.work_dir) / 'throughput.json').mkdir()
    runner.train()
    text = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'throughput.json could not be written' in text


def test_device__is_waited_for_at_the_ends_only(small_run, monkeypatch):
    """Replace the device and count how often it is waited for."""
    waits = []
    monkeypatch.setattr(throughput_hook, 'get_device', lambda: 'cuda')
    runner = small_run('run', epochs=2, **_hooks(2))
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: waits.append(runner.iter))
    runner.train()
    # Start of an epoch, both sides of the end of the warm-up, end of the epoch.
    assert waits == [0, 1, 1, 6, 6, 7, 7, 12]
    assert _report(runner)['device'] == 'cuda'


@pytest.mark.parametrize(
    ('batch', 'count'),
    [
        ({'inputs': [0, 0, 0], 'data_samples': [1, 1, 1]}, 3),
        ({'inputs': torch.zeros(4, 3, 2, 2)}, 4),
        ({'image': {'inputs': [0, 0]}}, 2),
        ([{'inputs': 0}, {'inputs': 0}], 2),
        ((torch.zeros(5, 3), [0] * 5), 5),
    ],
)
def test_images_of_a_batch(batch, count):
    assert throughput_hook._count_images(batch) == count


def test_refuses__negative_warmup():
    with pytest.raises(ValueError, match='0 or more iterations, not -1'):
        ThroughputHook(warmup=-1)
