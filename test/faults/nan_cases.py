# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""NaN in trainings: the features of one rank become NaN in chosen iterations or validations."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from case import Case, Outcome

from mmface.engine.hooks.non_finite_hook import NOT_FINITE
from mmface.toys.widerface import make_toy_widerface
from mmface.utils.checkpoint import load_checkpoint_file

REPO = Path(__file__).resolve().parents[2]
SIDE = 96
IMAGES, BATCH = 16, 2
PRECISIONS = {
    'float32': ('--precision', 'fp32'),
    'O1': ('--precision', 'o1'),
    'O2': ('--precision', 'o2'),
}
#: A hook that makes the features of the last rank NaN.
POISON = """
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

@HOOKS.register_module()
class Poison(Hook):
    def __init__(self, first, last, validations):
        self.first, self.last, self.validations = first, last, validations
        self.active = False

    def before_train(self, runner):
        model = getattr(runner.model, 'module', runner.model)
        last_rank = runner.rank == runner.world_size - 1
        def spoil(module, args, features):
            if self.active and last_rank:
                return tuple(feature * torch.nan for feature in features)
        model.backbone.register_forward_hook(spoil)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.active = self.first <= runner.iter + 1 <= self.last

    def before_val_epoch(self, runner):
        self.active = runner.epoch in self.validations

    def after_val_epoch(self, runner, metrics=None):
        self.active = False
"""
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=[*_base_.custom_imports.imports, 'poison'])
custom_hooks = [dict(type='Poison', first={first}, last={last}, validations={validations})]
image_size = ({side}, {side})
train_steps = _base_.train_steps
train_steps.crop.update(size={side})
test_steps = _base_.test_steps
test_steps.resize.update(scale=image_size)
model = dict(data_preprocessor=dict(pad_size=image_size))
train_dataloader = dict(
    batch_size={batch}, num_workers=0, dataset=dict(pipeline=list(train_steps.values()))
)
val_dataloader = dict(num_workers=0, dataset=dict(pipeline=list(test_steps.values())))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs={epochs}, val_interval=1)
default_hooks = dict(
    checkpoint=dict(interval=1),
    logger=dict(interval=1),
    non_finite=dict(max_in_row=5, interval=2),
)
"""


def train(
    folder: Path,
    precision: str,
    ranks: int,
    epochs: int,
    poison: tuple[int, int] = (0, -1),
    validations: tuple[int, ...] = (),
) -> tuple[list[int], str, Path]:
    """Train a toy detector that becomes NaN.

    Args:
        folder: All output is written there.
        precision: A key of ``PRECISIONS``.
        ranks: Number of processes; the last one has the NaN.
        epochs: Length of the training in epochs.
        poison: First and last iteration with NaN, from 1.
        validations: Epochs, from 1, whose validation has NaN.

    Returns:
        The exit status of each rank, all output of rank 0, and the work dir.
    """
    data = make_toy_widerface(
        folder / 'data', num_train=IMAGES, num_val=4, image_size=(160, 120), edge_cases=False
    )
    (folder / 'poison.py').write_text(POISON)
    config = folder / 'toy.py'
    base = str(REPO / 'configs/scrfd/scrfd_500m_bnkps.py')
    config.write_text(
        CONFIG.format(
            base=base, first=poison[0], last=poison[1], validations=list(validations),
            side=SIDE, batch=BATCH, epochs=epochs,
        )
    )  # fmt: skip
    work_dir = folder / 'work'
    command = [sys.executable, 'tools/train.py', str(config), '--device', 'cpu', '--seed', '5']
    command += ['--data-path', str(data), '--work-dir', str(work_dir), *PRECISIONS[precision]]
    if precision == 'O2':  # float16 takes very long on a CPU
        command += ['--cfg-options', 'optim_wrapper.dtype=bfloat16']
    if ranks > 1:
        command[3:3] = ['--launcher', 'pytorch']
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes, outputs = [], []
    for rank in range(ranks):
        outputs.append(folder / f'rank{rank}.txt')
        world = {
            'RANK': rank, 'LOCAL_RANK': rank, 'WORLD_SIZE': ranks, 'LOCAL_WORLD_SIZE': ranks,
            'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port,
        }  # fmt: skip
        paths = {'PYTHONPATH': f'{REPO}:{folder}', 'OMP_NUM_THREADS': '1'}
        env = os.environ | paths
        if ranks > 1:
            env |= {name: str(value) for name, value in world.items()}
        with outputs[-1].open('w') as output:
            processes.append(
                subprocess.Popen(
                    command,
                    cwd=REPO,
                    env=env,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        statuses = [process.wait(600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return statuses, outputs[0].read_text(errors='replace'), work_dir


def unhealthy(work_dir: Path) -> list[str]:
    """Return the names of checkpoints with a weight that is not finite."""
    return [
        path.name
        for path in work_dir.glob('*.pth')
        for value in load_checkpoint_file(path)['state_dict'].values()
        if isinstance(value, torch.Tensor) and not value.isfinite().all()
    ]


def line_with(text: str, words: str) -> str:
    """Return the first line of a log that contains ``words``, without its time."""
    lines = (line.split(' - ')[-1] for line in text.splitlines() if words in line)
    return next(lines, '')


def judge(good: bool, message: str, statuses: list[int], text: str, work_dir: Path) -> Outcome:
    """Return the outcome; if it is not good, its message is the end of the output."""
    bad = unhealthy(work_dir)
    if good and not bad and message:
        return Outcome(1, message)
    return Outcome(0, f'{statuses} {bad} {message or text[-1500:]}')


def nan_in_iteration(folder: Path, precision: str, ranks: int, iteration: int) -> Outcome:
    """Check that the step is reported, the run ends normally, and all checkpoints are finite."""
    per_epoch = IMAGES // BATCH // ranks
    epochs = -(-(iteration + 1) // per_epoch)
    statuses, text, work_dir = train(folder, precision, ranks, epochs, (iteration, iteration))
    message = line_with(text, f'iteration {iteration}: the loss is not finite')
    named = ('rank 1: ' in message) == (ranks > 1) and 'loss_' in message and '.jpg' in message
    saved = (work_dir / f'epoch_{epochs}.pth').is_file()
    good = statuses == [0] * ranks and named and saved
    return judge(good and text.count('loss is not finite') == 1, message, statuses, text, work_dir)


def nan_in_validation(folder: Path, precision: str, ranks: int) -> Outcome:
    """Check that the run continues, and that the best checkpoint has a finite score."""
    statuses, text, work_dir = train(folder, precision, ranks, 3, validations=(1, 3))
    best = list(work_dir.glob('best*.pth'))
    good = statuses == [0] * ranks and (work_dir / 'epoch_3.pth').is_file() and len(best) == 1
    message = line_with(text, 'The best checkpoint with')
    return judge(good and 'nan' not in message, message, statuses, text, work_dir)


def nan_without_end(folder: Path, precision: str, ranks: int) -> Outcome:
    """Check that all ranks end with status 3, and that earlier checkpoints are kept."""
    statuses, text, work_dir = train(folder, precision, ranks, 4, (IMAGES // BATCH + 1, 999))
    good = statuses == [NOT_FINITE] * ranks and (work_dir / 'last_checkpoint').is_file()
    message = line_with(text, 'the loss was not finite in 5 steps in a row')
    return judge(good, message, statuses, text, work_dir)


CASES = [
    Case(
        f'NaN {what}, {precision}, {ranks} rank{"s" if ranks > 1 else ""}',
        1,
        functools.partial(run, precision=precision, ranks=ranks, **more),
        # The tests of NonFiniteHook cover the other cases on one rank.
        quick=ranks == 2 and precision == 'float32' and more != {'iteration': 50},
    )
    for precision in PRECISIONS
    for ranks in (1, 2)
    for what, run, more in (
        ('at iteration 2', nan_in_iteration, {'iteration': 2}),
        ('at iteration 50', nan_in_iteration, {'iteration': 50}),
        ('in validation', nan_in_validation, {}),
        ('without end', nan_without_end, {}),
    )
]
