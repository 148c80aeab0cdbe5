# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A resumed run has the learning rates of its config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from mmface.engine.resumed_schedule import ResumedSchedule, mark_kinds
from mmface.engine.schedule_length import scale_schedule

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
EPOCH = 7  # iterations


def _schedules():
    """Return one config for each different combination of schedule and length."""
    found = {}
    for path in sorted(CONFIGS.glob('[!_]*/*.py')):
        cfg = Config.fromfile(path, import_custom_modules=False)
        length = {key: cfg.train_cfg[key] for key in cfg.train_cfg if key.startswith('max_')}
        found.setdefault(str([length, cfg.param_scheduler]), path.relative_to(CONFIGS).as_posix())
    return sorted(found.values())


class Run:
    """An optimizer of a config and its schedulers, which are stepped as a training does."""

    def __init__(self, options, length, by_epoch, lr=0.1, reset=()):
        self.by_epoch, self.length = by_epoch, length
        weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
        groups = [{'params': [weights[0]]}, {'params': [weights[1]], 'lr': lr / 2}]
        self.optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9)
        defaults = {'optimizer': self.optimizer, 'epoch_length': EPOCH}
        ends = {True: length if by_epoch else 1, False: length * (EPOCH if by_epoch else 1)}
        self.schedulers = []
        for option in options:
            option = {'end': ends[option.get('by_epoch', True)], **option}
            self.schedulers.append(PARAM_SCHEDULERS.build(option, default_args=defaults))
        mark_kinds(self.schedulers)
        self.planned = ResumedSchedule(
            self.optimizer, self.schedulers, **dict.fromkeys(reset, True)
        )
        self.iterations = 0

    def train(self, until):
        """Return the learning rates of each iteration."""
        rates = []
        for _ in range(until - self.iterations):
            rates.append([group['lr'] for group in self.optimizer.param_groups])
            self.optimizer.step()
            self.iterations += 1
            self._step(False)
            if self.by_epoch and self.iterations % EPOCH == 0:
                self._step(True)
        return rates

    def _step(self, by_epoch):
        for scheduler in self.schedulers:
            if scheduler.by_epoch == by_epoch:
                scheduler.step()

    def checkpoint(self):
        saved = {
            'optimizer': self.optimizer.state_dict(),
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
            'iterations': self.iterations,
        }
        torch.save(saved, 'checkpoint.pth')
        return torch.load('checkpoint.pth', weights_only=False)  # Counter of MultiStepLR

    def resume(self, saved):
        self.optimizer.load_state_dict(saved['optimizer'])
        self.iterations = saved['iterations']
        epochs = self.iterations // EPOCH if self.by_epoch else 0
        self.schedulers = self.planned.apply(
            self.optimizer, saved['schedulers'], self.iterations, epochs, EPOCH
        )
        return self


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _schedule(name, length):
    """Return the schedule of a config at another length, and whether that counts epochs."""
    cfg = Config.fromfile(CONFIGS / name, import_custom_modules=False)
    by_epoch = 'max_epochs' in cfg.train_cfg
    before = cfg.train_cfg.max_epochs if by_epoch else cfg.train_cfg.max_iters
    length *= 1 if by_epoch else EPOCH
    return scale_schedule(cfg.param_scheduler, before, length), length, by_epoch


@pytest.mark.parametrize('at', [40, 42, 84], ids=['middle', 'end_of_epoch', 'end_of_run'])
@pytest.mark.parametrize('name', _schedules())
def test_extended_run__has_the_rates_of_the_full_run(name, at):
    short, full = _schedule(name, 12), _schedule(name, 30)
    first = Run(*short)
    first.train(at)
    saved = first.checkpoint()
    resumed = Run(*full).resume(saved)
    unbroken = Run(*full).train(30 * EPOCH)
    assert resumed.train(30 * EPOCH) == unbroken[at:]
    assert resumed.planned.changes
    assert not resumed.planned.warnings
    # mmengine restores the schedule of the short run.
    plain = Run(*full)
    plain.optimizer.load_state_dict(saved['optimizer'])
    for scheduler, state in zip(plain.schedulers, saved['schedulers'], strict=True):
        scheduler.load_state_dict(state)
    plain.iterations = at
    assert plain.train(30 * EPOCH) != unbroken[at:]


@pytest.mark.parametrize('name', _schedules())
def test_same_config__goes_on_exactly(name):
    schedule = _schedule(name, 12)
    first = Run(*schedule)
    unbroken = [first.train(40), saved := first.checkpoint(), first.train(84)][-1]
    resumed = Run(*schedule).resume(saved)
    assert resumed.train(84) == unbroken
    assert not resumed.planned.changes
    assert not resumed.planned.warnings


STEPS = [
    {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'begin': 0, 'end': 5},
    {'type': 'MultiStepLR', 'by_epoch': True, 'milestones': [2, 4], 'gamma': 0.1},
]
COSINE = [{'type': 'CosineAnnealingLR', 'by_epoch': True, 'T_max': 6}]


@pytest.fixture
def saved():
    first = Run(STEPS, 6, True)
    first.train(3 * EPOCH)
    return first.checkpoint()


@pytest.mark.parametrize('reset', ['reset_lr', 'reset_schedule'])
def test_lr__is_taken_if_asked_for(saved, reset):
    resumed = Run(STEPS, 6, True, lr=0.4, reset=[reset]).resume(saved)
    unbroken = Run(STEPS, 6, True, lr=0.4).train(42)
    assert resumed.train(42) == unbroken[21:]
    assert resumed.planned.changes == ['lr 0.1 -> 0.4', 'lr 0.05 -> 0.2']


def test_lr__of_the_run_stays_with_a_warning(saved):
    resumed = Run(STEPS, 6, True, lr=0.4).resume(saved)
    assert resumed.train(42) == Run(STEPS, 6, True).train(42)[21:]
    assert [text[:51] for text in resumed.planned.warnings] == [
        'this run keeps its learning rate 0.1; the config ha',
        'this run keeps its learning rate 0.05; the config h',
    ]


def test_classes__are_taken_if_asked_for(saved):
    resumed = Run(COSINE, 6, True, reset=['reset_schedule']).resume(saved)
    assert resumed.train(42) == Run(COSINE, 6, True).train(42)[21:]
    assert resumed.planned.changes == ['schedulers CosineAnnealingLR']


def test_classes__of_the_run_stay_with_a_warning(saved):
    resumed = Run(COSINE, 6, True).resume(saved)
    assert resumed.train(42) == Run(STEPS, 6, True).train(42)[21:]
    (warning,) = resumed.planned.warnings
    assert 'keeps its schedulers LinearLR, MultiStepLR' in warning
    assert 'CosineAnnealingLR; reset_schedule takes them' in warning


def test_classes__of_an_older_checkpoint_are_unknown(saved):
    for state in saved['schedulers']:
        del state['kind']
    resumed = Run(STEPS, 6, True).resume(saved)
    assert not resumed.planned.warnings
    assert resumed.train(42) == Run(STEPS, 6, True).train(42)[21:]
    resumed = Run(COSINE, 6, True).resume(saved)
    assert 'of other, unknown classes' in resumed.planned.warnings[0]
    assert resumed.train(42) == Run(COSINE, 6, True).train(42)[21:]


def test_kinds__that_are_not_registered_are_not_built(saved):
    saved['schedulers'][0]['kind'] = 'subprocess.Popen'
    resumed = Run(COSINE, 6, True).resume(saved)
    assert 'unknown classes' in resumed.planned.warnings[0]
    assert [type(s).__name__ for s in resumed.schedulers] == ['CosineAnnealingLR']


@pytest.mark.parametrize('reset', [[], ['reset_schedule']], ids=['kept', 'taken'])
def test_other_options__of_the_optimizer(saved, reset):
    run = Run(STEPS, 6, True, reset=reset)
    for group in run.planned.groups:
        group['weight_decay'] = 0.5
    run.resume(saved)
    texts = run.planned.changes if reset else run.planned.warnings
    assert len(texts) == 1
    assert 'weight_decay' in texts[0]
    taken = 0.5 if reset else 0
    assert [group['weight_decay'] for group in run.optimizer.param_groups] == [taken, taken]


@pytest.mark.parametrize('kinds', [('SGD', 'AdamW'), ('AdamW', 'SGD'), ('RMSprop', 'AdamW')])
def test_another_optimizer__is_refused(small_run, kinds):
    first, second = (
        {'optim_wrapper': {'optimizer': {'_delete_': True, 'type': kind, 'lr': 0.01}}}
        for kind in kinds
    )
    small_run('run', epochs=1, **first).train()
    with pytest.raises(ValueError, match=r'another class of optimizer .* load_from'):
        small_run('run', epochs=2, resume=True, **second).train()


def test_plateau__keeps_its_count_and_takes_its_settings():
    plateau = [{'type': 'ReduceOnPlateauLR', 'monitor': 'ap', 'patience': 3, 'by_epoch': True}]
    first = Run(plateau, 6, True)
    (scheduler,) = first.schedulers
    for _ in range(2):
        scheduler.step({'ap': 1.0})
    resumed = Run([{**plateau[0], 'patience': 5}], 6, True).resume(first.checkpoint())
    (scheduler,) = resumed.schedulers
    assert (scheduler.patience, scheduler.num_bad_epochs) == (5, 1)


def test_run__of_three_epochs_resumed_to_six(small_run, tmp_path):
    """The case of the issue: 0.1 until milestone 4, then 0.01 and 0.001."""
    schedule = [{'type': 'MultiStepLR', 'by_epoch': True, 'milestones': [4, 5], 'gamma': 0.1}]
    options = {'param_scheduler': schedule, 'default_hooks': {'logger': {'interval': 6}}}
    small_run('run', epochs=3, **options).train()
    small_run('run', epochs=6, resume=True, **options).train()
    logs = sorted((tmp_path / 'run').glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    rates = [line['lr'] for line in lines if 'lr' in line]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize('reset', [False, True])
def test_run__with_another_lr(small_run, reset):
    small_run('run', epochs=2).train()
    lr = {'optim_wrapper': {'optimizer': {'lr': 0.5}}, 'reset_lr': reset}
    resumed = small_run('run', epochs=3, resume=True, **lr)
    resumed.train()
    group = resumed.optim_wrapper.param_groups[0]
    text = next(Path(resumed.log_dir).glob('*.log')).read_text()
    assert group['initial_lr'] == (0.5 if reset else 0.1)
    assert group['lr'] == pytest.approx(group['initial_lr'] * 0.09)
    assert ('lr 0.1 -> 0.5' if reset else 'keeps its learning rate 0.1; the config has 0.5') in text
