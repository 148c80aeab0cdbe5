# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Requests to stop: one checkpoint, status 75, and the same final weights."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from case import Case, Outcome
from kill_cases import EPOCHS, rank, unbroken
from toy_run import RARELY, ToyRun, last_error, make_data, same_weights, weights

from mmface.utils.cli import PREEMPTED


def stop(
    moments: Sequence[int], ranks: int, send: Callable[[ToyRun], None]
) -> Callable[[Path], Outcome]:
    """Return a case: stop a run after each of some iterations and resume every time.

    Otherwise only the ends of epochs are saved, so the next start resumes from what a stop saved.
    """

    def case(folder: Path) -> Outcome:
        data, wanted = unbroken(ranks)
        options = [*EPOCHS[ranks], *RARELY]
        good, lost, message = 0, [], ''
        for moment in moments:
            run = ToyRun(data, folder / 'run', ranks, options=options)
            if moment:
                run.wait_for_iteration(moment)
            else:
                time.sleep(2)  # during its imports
            send(run)
            status = run.end()
            message = next(
                (line for line in reversed(run.text.splitlines()) if 'Stopped' in line), status
            )
            lost.append(max(moment - run.saved, 0))
            good += status == PREEMPTED and lost[-1] <= 1
        run = ToyRun(data, folder / 'run', ranks, options=options)
        equal = run.end() == 0 and same_weights(weights(run.work_dir), wanted)
        message = f'{message}'.partition('INFO - ')[2]
        text = f'status {PREEMPTED}, at most {max(lost)} iterations lost, bit-equal; "{message}"'
        return Outcome(good if equal else 0, text)

    return case


def to_all(number: signal.Signals) -> Callable[[ToyRun], None]:
    """Send the signal to the process that the user started."""
    return lambda run: run.process.send_signal(number)


def to_group(run: ToyRun) -> None:
    """Send the signal to the process and its loader workers, as schedulers do."""
    os.killpg(run.process.pid, signal.SIGTERM)


def to_rank_1(run: ToyRun) -> None:
    for pid in rank(1)(run):
        os.kill(pid, signal.SIGUSR1)


def max_minutes(ranks: int) -> Callable[[Path], Outcome]:
    """Return a case: two starts with a time limit of seconds, then one without."""

    def case(folder: Path) -> Outcome:
        data, wanted = unbroken(ranks)
        # The clock starts when the runner is built, and at least one iteration is run.
        limit = ['--max-minutes', '0.05']
        statuses, saved = [], []
        for more in (limit, limit, []):
            run = ToyRun(data, folder / 'run', ranks, more, [*EPOCHS[ranks], *RARELY])
            statuses.append(run.end())
            saved.append(run.saved)
        wanted_statuses = statuses == [PREEMPTED, PREEMPTED, 0] and 0 < saved[0] < saved[1]
        equal = same_weights(weights(run.work_dir), wanted)
        text = f'statuses {statuses}, stopped after iterations {saved[:2]}, bit-equal'
        return Outcome(2 * int(wanted_statuses and equal), text)

    return case


def ctrl_c(folder: Path) -> Outcome:
    """Check that Ctrl-C prints the checkpoint to continue from."""
    run = ToyRun(unbroken(1)[0], folder / 'run')
    run.wait_for(lambda: run.saved >= 2)
    run.process.send_signal(signal.SIGINT)
    status = run.end()
    message = last_error(run.text)
    named = f'{run.work_dir / f"iter_{run.saved}.pth"} with --resume' in message
    return Outcome(int(status == 130 and named), f'status {status}; "{message}"')


def quick_stop(folder: Path) -> Outcome:
    """Send one SIGTERM; do not compare with the uninterrupted run."""
    run = ToyRun(make_data(folder), folder / 'run', options=RARELY)
    run.wait_for_iteration(2)
    run.process.send_signal(signal.SIGTERM)
    status = run.end()
    good = status == PREEMPTED and run.saved >= 2 and not (run.work_dir / 'training.lock').exists()
    return Outcome(int(good), f'status {status}, iteration {run.saved} saved')


MOMENTS = (0, 1, 3, 7, 8, 11, 15, 16, 19, 22)
CASES = [
    Case('SIGTERM in the second iteration', 1, quick_stop, quick=True),
    Case('SIGTERM at 10 moments', 10, stop(MOMENTS, 1, to_all(signal.SIGTERM))),
    Case('SIGTERM to the process and its workers', 2, stop((2, 9), 1, to_group)),
    Case('SIGTERM to dist_train.sh', 4, stop((1, 4, 9, 15), 2, to_all(signal.SIGTERM))),
    Case('SIGUSR1 to dist_train.sh', 2, stop((2, 8), 2, to_all(signal.SIGUSR1))),
    Case('SIGUSR1 to rank 1 of two', 2, stop((3, 12), 2, to_rank_1)),
    Case('--max-minutes, one rank', 2, max_minutes(1)),
    Case('--max-minutes, two ranks', 2, max_minutes(2)),
    Case('Ctrl-C', 1, ctrl_c),
]
