# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Only their parent can stop loader workers, and an error explains their death."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
from torch.utils.data import DataLoader, Dataset

from mmface.engine.loader_workers import WorkerStart, killed_worker
from mmface.engine.run_guard import clear_errors


class Numbers(Dataset):
    """Sends a signal to its own process instead of an item, or from another process."""

    def __init__(self, number, foreign=False):
        self.number = number
        self.foreign = foreign

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2 and self.foreign:
            subprocess.run(['kill', f'-{int(self.number)}', str(os.getpid())], check=True)
        elif index == 2:
            os.kill(os.getpid(), self.number)
        return index


def _load(dataset):
    started = []
    loader = DataLoader(dataset, num_workers=1, worker_init_fn=WorkerStart(started.append))
    return [int(batch) for batch in loader]


# In a separate process: torch raises from a signal handler, wherever the main thread is.
KILL = """
import os
from types import SimpleNamespace
from torch.utils.data import DataLoader
from mmface.engine.run_guard import clear_errors

class Killing(list):
    def __getitem__(self, index):
        return os.kill(os.getpid(), self.number) if index == 2 else index

for number in (9, 7):
    items = Killing(range(4))
    items.number = number
    try:
        with clear_errors(SimpleNamespace(rank=0)):
            list(DataLoader(items, num_workers=1))
    except ChildProcessError as error:
        print(error)
"""


def test_killed__is_explained(repo):
    done = subprocess.run([sys.executable, '-c', KILL], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[-2:]
    for line in lines:
        assert re.match(r'loader worker \d+ .*: most often the memory .* or /dev/shm, w', line), (
            lines
        )


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_signals_of_others__are_passed_over(number):
    assert _load(Numbers(number, foreign=True)) == [0, 1, 2, 3]


def test_sigterm_of_the_parent__ends_a_worker():
    loader = DataLoader(Numbers(0), num_workers=1, worker_init_fn=WorkerStart(None))
    batches = iter(loader)
    next(batches)
    worker = batches._workers[0]
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


class Missing(Numbers):
    def __getitem__(self, index):
        raise FileNotFoundError('no such image')


def test_errors_of_a_worker__stay():
    with pytest.raises(FileNotFoundError, match='no such image'), clear_errors(None):
        _load(Missing(0))


def test_killed__is_found_behind_another_error():
    with pytest.raises(ChildProcessError, match='loader worker 7 is killed'), clear_errors(None):
        try:
            raise RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed.')
        except RuntimeError as error:
            raise SyntaxError('cannot format the config') from error


def test_other_errors__stay():
    assert killed_worker(RuntimeError('out of range')) is None
    with pytest.raises(RuntimeError, match='out of range'), clear_errors(None):
        raise RuntimeError('out of range')
