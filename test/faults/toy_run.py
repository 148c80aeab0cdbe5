# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Trainings of half a minute, started as by a user, to be interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from mmface.toys.widerface import make_toy_widerface
from mmface.utils.checkpoint import load_checkpoint_file

REPO = Path(__file__).resolve().parents[2]
CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'
#: Images of the toy set; with batches of 2, one rank has 8 iterations in an epoch and two have 4.
IMAGES = 16
SIDE = 96
OPTIONS = (
    'train_cfg.max_epochs=3',
    'train_cfg.val_interval=2',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=1',
    'val_dataloader.num_workers=0',
    f'train_dataloader.dataset.pipeline.2.size={SIDE}',
    f'val_dataloader.dataset.pipeline.1.scale=({SIDE},{SIDE})',
    f'model.data_preprocessor.pad_size=({SIDE},{SIDE})',
    'default_hooks.logger.interval=1',
    # Every iteration is saved, so that little is repeated.
    'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=1',
)
#: Options of a run that saves only at the ends of epochs.
RARELY = ('default_hooks.checkpoint.by_epoch=True',)


def make_data(folder: Path) -> Path:
    """Write the toy dataset and return its folder."""
    return make_toy_widerface(
        folder / 'data', num_train=IMAGES, num_val=4, image_size=(160, 120), edge_cases=False
    )


class ToyRun:
    """A training in its own process group.

    Args:
        data: Folder of the toy set.
        work_dir: Folder to which it writes.
        ranks: Number of processes; more than one are started with ``dist_train.sh``.
        more: Further options of ``train.py``.
        options: Further config values.
    """

    def __init__(
        self,
        data: Path,
        work_dir: Path,
        ranks: int = 1,
        more: Iterable[str] = (),
        options: Iterable[str] = (),
    ) -> None:
        self.work_dir = work_dir
        self.output = work_dir.with_suffix('.txt')
        if ranks == 1:
            command = [sys.executable, 'tools/train.py', CONFIG]
        else:
            command = ['bash', 'tools/dist_train.sh', CONFIG, str(ranks)]
        command += [
            '--data-path',
            str(data),
            '--work-dir',
            str(work_dir),
            '--seed',
            '5',
            '--resume',
        ]
        command += [*more, '--cfg-options', *OPTIONS, *options]
        with self.output.open('a') as output:
            self.process = subprocess.Popen(
                command,
                cwd=REPO,
                env=os.environ | {'PYTHONPATH': str(REPO), 'OMP_NUM_THREADS': '1'},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Shells let background jobs ignore Ctrl-C, which would be handed on.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def text(self) -> str:
        """All output of this run and of earlier runs in this folder."""
        return self.output.read_text(errors='replace')

    @property
    def saved(self) -> int:
        """Number of the iteration that ``last_checkpoint`` names; 0 if there is none."""
        try:
            return int(
                re.findall(r'iter_(\d+)', (self.work_dir / 'last_checkpoint').read_text())[0]
            )
        except (FileNotFoundError, IndexError):
            return 0

    def wait_for(self, ready: Callable[[], bool], seconds: float = 300) -> bool:
        """Wait until ``ready`` returns true; return False if the run ended before."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            if ready():
                return True
            if time.monotonic() > end:
                raise TimeoutError(f'nothing happened for {seconds} s: {self.text[-2000:]}')
            time.sleep(0.002)
        return False

    def wait_for_iteration(self, number: int) -> bool:
        """Wait until an iteration is in the log."""
        line = re.compile(r'\[\s*(\d+)\]\[\s*(\d+)/\s*(\d+)\]')
        size = self.output.stat().st_size

        def reached() -> bool:
            with self.output.open('rb') as file:
                file.seek(size)
                found = line.findall(file.read().decode(errors='replace'))
            epoch, done, length = map(int, found[-1]) if found else (1, 0, 0)
            return (epoch - 1) * length + done >= number

        return self.wait_for(reached)

    def end(self, seconds: float = 300) -> int:
        """Wait for the end and return the exit status."""
        return self.process.wait(seconds)

    def children(self, depth: int = 1) -> list[int]:
        """Return the processes ``depth`` levels below it; level 1 are its children."""
        found = [self.process.pid]
        for _ in range(depth):
            found = [child for pid in found for child in _children(pid)]
        return found


def _children(pid: int) -> list[int]:
    found = []
    for file in Path(f'/proc/{pid}/task').glob('*/children'):
        try:
            found += [int(child) for child in file.read_text().split()]
        except OSError:  # it has just ended
            continue
    return found


def last_error(text: str) -> str:
    """Return the last line that is meant for a user."""
    lines = [line for line in text.splitlines() if line.startswith(('error:', 'interrupted'))]
    return lines[-1] if lines else text.strip().splitlines()[-1]


def weights(work_dir: Path) -> dict[str, torch.Tensor]:
    """Read the weights and the optimizer state from the checkpoint in ``last_checkpoint``."""
    content = load_checkpoint_file((work_dir / 'last_checkpoint').read_text().strip())
    state = dict(content['state_dict'])
    for number, values in content['optimizer']['state'].items():
        state |= {f'{number}.{key}': torch.as_tensor(value) for key, value in values.items()}
    return state


def same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Return whether two states are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
