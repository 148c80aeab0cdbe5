# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""SIGKILL at random moments: the resumed run ends like the uninterrupted one."""

from __future__ import annotations

import atexit
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from case import Case, Outcome
from toy_run import ToyRun, last_error, make_data, same_weights, weights

#: Number of kills of one run, and maximum number of iterations between two of them.
KILLS, APART = 4, 4
#: With two ranks an epoch has half as many iterations.
EPOCHS = {1: (), 2: ('train_cfg.max_epochs=6',)}


@cache
def _place() -> Path:
    """Create a folder with the toy set, for all cases of this process."""
    folder = tempfile.TemporaryDirectory(prefix='mmface_unbroken_')
    atexit.register(folder.cleanup)
    make_data(Path(folder.name))
    return Path(folder.name)


@cache
def unbroken(ranks: int) -> tuple[Path, dict]:
    """Train once without a fault; return the data folder and the weights."""
    folder = _place()
    run = ToyRun(folder / 'data', folder / f'{ranks}', ranks, options=EPOCHS[ranks])
    if run.end() != 0:
        raise RuntimeError(f'the uninterrupted run failed: {run.text[-2000:]}')
    return folder / 'data', weights(run.work_dir)


def process_itself(run: ToyRun) -> list[int]:
    return [run.process.pid]


def loader_worker(run: ToyRun) -> list[int]:
    return run.children()[:1]


def everything(run: ToyRun) -> list[int]:
    return [run.process.pid, *run.children(1), *run.children(2)]


def rank(number: int) -> Callable[[ToyRun], list[int]]:
    """Return a function that finds a rank among the children of the launcher."""

    def find(run: ToyRun) -> list[int]:
        wanted = f'RANK={number}'.encode()
        return [
            pid
            for pid in run.children()
            if wanted in Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
        ]

    return find


def kill(
    seeds: list[int],
    ranks: int,
    target: Callable[[ToyRun], list[int]],
    in_write: bool = False,
) -> Callable[[Path], Outcome]:
    """Return a case: in each of some runs, kill ``target`` four times and resume."""

    def case(folder: Path) -> Outcome:
        data, wanted = unbroken(ranks)
        survived, message = 0, ''
        for seed in seeds:
            draw = random.Random(seed)
            hits = 0
            for _ in range(KILLS):
                run = ToyRun(data, folder / f'{seed}', ranks, options=EPOCHS[ranks])
                hits += strike(run, draw, target, in_write)
                run.end()
                message = last_error(run.text)
            run = ToyRun(data, folder / f'{seed}', ranks, options=EPOCHS[ranks])
            equal = run.end() == 0 and same_weights(weights(run.work_dir), wanted)
            survived += hits if equal else 0
        return Outcome(survived, f'final weights bit-equal; last message: "{message}"')

    return case


def strike(
    run: ToyRun, draw: random.Random, target: Callable[[ToyRun], list[int]], in_write: bool
) -> bool:
    """Kill at a random moment; return False if the run ended before."""
    begun = run.saved
    goal = begun + draw.randint(1, APART)
    if not run.wait_for(lambda: run.saved >= goal):
        return False
    if in_write:
        hit = run.wait_for(lambda: any(run.work_dir.glob('.iter_*.pth')))
    else:
        time.sleep(draw.random() * 0.4)
        hit = run.process.poll() is None
    for pid in target(run):
        os.kill(pid, signal.SIGKILL)
    return hit


CASES = [
    Case('SIGKILL of the only rank, 3 runs', 12, kill([1, 2, 3], 1, process_itself)),
    Case('SIGKILL while a checkpoint is written', 4, kill([4], 1, process_itself, True)),
    Case('SIGKILL of a loader worker', 4, kill([5], 1, loader_worker)),
    Case('SIGKILL of rank 0 of two, 2 runs', 8, kill([6, 7], 2, rank(0))),
    Case('SIGKILL of rank 1 of two, 2 runs', 8, kill([8, 9], 2, rank(1))),
    Case('SIGKILL of the launcher and both ranks', 4, kill([10], 2, everything)),
]
