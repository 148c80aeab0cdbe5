# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Loader workers that are killed, and ranks that are stuck."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from case import Case, Outcome
from kill_cases import rank
from toy_run import ToyRun, last_error, make_data

from mmface.engine.hooks.rank_watch_hook import STUCK


def killed_worker(folder: Path) -> Outcome:
    """Check that a killed worker gives a one-line error on memory and /dev/shm."""
    data = make_data(folder)
    good, message = 0, ''
    for number in range(3):
        run = ToyRun(data, folder / f'{number}')
        run.wait_for_iteration(3 * number + 1)
        for pid in run.children()[:1]:
            os.kill(pid, signal.SIGKILL)
        status = run.end()
        message = last_error(run.text)
        clear = 'memory' in message and '/dev/shm' in message and 'Traceback' not in run.text
        good += status == 2 and clear
    return Outcome(good, message)


def stuck_rank(number: int):
    """Return a case: a rank stops, as with a failed disk or driver."""

    def case(folder: Path) -> Outcome:
        timeout = 20
        run = ToyRun(
            make_data(folder),
            folder / 'run',
            ranks=2,
            options=[f'env_cfg.dist_cfg.timeout={timeout}', 'train_cfg.max_epochs=50'],
        )
        run.wait_for_iteration(3)
        for pid in rank(number)(run):
            os.kill(pid, signal.SIGSTOP)
        status = run.end()
        said = re.findall(r'^rank \d: no progress for .*', run.text, re.MULTILINE)
        named = any(f'no sign of life from rank {number} (' in line for line in said)
        return Outcome(int(status == STUCK and named), f'status {status}; "{"".join(said[:1])}"')

    return case


CASES = [
    Case('loader worker killed, as by a full memory', 3, killed_worker),
    Case('rank 1 of two is stuck', 1, stuck_rank(1)),
    Case('rank 0 of two is stuck', 1, stuck_rank(0)),
]
