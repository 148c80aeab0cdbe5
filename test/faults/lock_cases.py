# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Two trainings that use the same folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

from case import Case, Outcome
from toy_run import ToyRun, last_error, make_data

from mmface.engine.work_dir_lock import LOCK_FILE, WorkDirLock

_fork = multiprocessing.get_context('fork')
CONTENDERS = 20


def second_run(folder: Path) -> Outcome:
    """Check that the second is refused, the first ends well, then the folder is free."""
    data = make_data(folder)
    first = ToyRun(data, folder / 'run')
    first.wait_for_iteration(1)
    # Two names of one folder, so that their outputs are separate.
    (folder / 'link').symlink_to(folder / 'run')
    second = ToyRun(data, folder / 'link')
    status = second.end()
    message = last_error(second.text)
    refused = status == 2 and f'process {first.process.pid} on' in message
    good = refused and first.end() == 0 and not (first.work_dir / LOCK_FILE).exists()
    return Outcome(int(good), f'status {status}; "{message}"')


def _hold(folder: Path, ready) -> None:
    with WorkDirLock(folder):
        ready.set()
        time.sleep(600)


def killed_holder(folder: Path) -> Outcome:
    """Check that the lock of a killed process is taken over at once."""
    taken = 0
    for _ in range(5):
        ready = _fork.Event()
        holder = _fork.Process(target=_hold, args=(folder, ready))
        holder.start()
        ready.wait(30)
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
        left = (folder / LOCK_FILE).exists()
        with WorkDirLock(folder):
            mine = json.loads((folder / LOCK_FILE).read_text())
            taken += left and mine['pid'] == os.getpid()
    return Outcome(taken, 'the training of process N on HOST has ended; its lock was taken over')


def _contend(folder: Path, start, results, over) -> None:
    start.wait(30)
    try:
        with WorkDirLock(folder):
            results.put(1)
            over.wait(60)  # until all have tried
    except ValueError:
        results.put(0)


def contenders(folder: Path) -> Outcome:
    """Start 20 at the same time on a stale lock; exactly one must get the folder."""
    good = 0
    for _ in range(5):
        (folder / LOCK_FILE).write_text(json.dumps({'host': os.uname().nodename, 'pid': 1 << 30}))
        start, over, results = _fork.Event(), _fork.Event(), _fork.SimpleQueue()
        arguments = (folder, start, results, over)
        crowd = [_fork.Process(target=_contend, args=arguments) for _ in range(CONTENDERS)]
        for process in crowd:
            process.start()
        start.set()
        won = sum(results.get() for _ in crowd)
        over.set()
        for process in crowd:
            process.join()
        good += won == 1
    return Outcome(good, f'one of {CONTENDERS} trains, the others are refused')


def other_host(folder: Path) -> Outcome:
    """Check that a holder on another host keeps the lock while its file shows signs of life."""
    file = folder / LOCK_FILE
    holder = json.dumps({'host': 'elsewhere', 'pid': 7, 'since': '2026-01-01 00:00:00'})
    file.write_text(holder)
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.1):
            os.utime(file)

    beat = threading.Thread(target=live)
    beat.start()
    message = ''
    try:
        with WorkDirLock(folder, watch=2):
            refused = False
    except ValueError as error:
        refused, message = True, str(error)
    over.set()
    beat.join()
    file.write_text(holder)
    with WorkDirLock(folder, watch=1):
        taken = json.loads(file.read_text())['pid'] == os.getpid()
    return Outcome(refused + taken, message)


CASES = [
    Case('second training in the folder of a running one', 1, second_run),
    Case('lock of a killed process', 5, killed_holder, quick=True),
    Case('20 trainings start at once in one folder', 5, contenders, quick=True),
    Case('lock of another host, running and ended', 2, other_host, quick=True),
]
