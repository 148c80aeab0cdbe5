# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Loader workers: which signals end them, and what is said when one was killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable

SHARED_MEMORY = '/dev/shm'
#: What a connection to a process that is gone raises, and where.
LOST = (ConnectionError, EOFError, FileNotFoundError)
CONNECTIONS = ('multiprocessing/connection.py', 'multiprocessing/resource_sharer.py')


class WorkerStart:
    """Start function of loader workers: only the training process may stop them.

    Schedulers send SIGTERM and SIGUSR1 to every process of a job, and without its workers a
    training could not reach the end of its iteration. A SIGTERM of the parent, which is how torch
    ends workers that hang, still ends the worker; without the parent it ends by itself.

    Args:
        then: Start function to call afterwards.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        """Set up the worker process."""
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        # Blocked here and in all threads to come, so that the waiting thread gets it and
        # learns who sent it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
        if self.then is not None:
            self.then(worker)


def _leave_with_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def killed_worker(error: BaseException) -> str | None:
    """Return what to tell a user if ``error`` comes from a dead loader worker.

    torch tells of it with the process id, unless it was about to fetch a batch from the
    worker, which then fails as a connection does.
    """
    try:
        fetching = isinstance(error, LOST) and _while_fetching(error)
        if fetching:
            time.sleep(1)
    except RuntimeError as report:  # torch's own, from its handler of SIGCHLD
        return killed_worker(report)
    found = re.search(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)', str(error), re.DOTALL)
    if found is not None:
        what = f'loader worker {found[1]} {found[2].split(".")[0].strip()}'
    elif fetching:
        what = 'a loader worker ended before its batch was fetched'
    else:
        return None
    return (
        f'{what}: most often the memory of the host, which the kernel ends processes to free, or '
        f'{SHARED_MEMORY}, {_shared_memory()}, was full; use a smaller '
        'train_dataloader.num_workers or batch_size, allow the job more memory, or give the '
        'container a larger --shm-size'
    )


def _while_fetching(error: BaseException) -> bool:
    """Return whether an error comes from the connection to a worker, not from its work."""
    walk = traceback.walk_tb(error.__traceback__)
    files = [frame.f_code.co_filename for frame, _ in walk]
    return (
        any(file.endswith('torch/utils/data/dataloader.py') for file in files)
        and any(file.endswith(CONNECTIONS) for file in files)
        and 'Traceback' not in str(error)  # what a worker raised comes with its traceback
    )


def _shared_memory() -> str:
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return 'which is missing here'
    return f'of whose {usage.total >> 20} MiB now {usage.free >> 20} are free'
