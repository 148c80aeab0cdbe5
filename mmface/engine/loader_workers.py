# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Loader workers: which signals end them, and the message when one was killed."""

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
#: Exceptions raised by a connection to a process that has ended, and the modules that raise them.
LOST = (ConnectionError, EOFError, FileNotFoundError)
CONNECTIONS = ('multiprocessing/connection.py', 'multiprocessing/resource_sharer.py')


class WorkerStart:
    """Start function of loader workers: only the training process may stop them.

    Schedulers send SIGTERM and SIGUSR1 to every process of a job. Without its workers a training
    could not finish its iteration. A SIGTERM of the parent still ends the worker, because torch
    ends workers that hang with it. If the parent ends, the worker ends by itself.

    Args:
        then: Start function to call afterwards.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        """Set up the worker process."""
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        # Blocked in this thread and in all later ones, so that the waiting thread receives the
        # signal and learns who sent it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
        if self.then is not None:
            self.then(worker)


def _leave_with_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def killed_worker(error: BaseException) -> str | None:
    """Return a message for the user if ``error`` comes from a dead loader worker, or None.

    torch reports the process id of the worker, except while it fetches a batch from the worker.
    Then the connection fails.
    """
    try:
        fetching = isinstance(error, LOST) and _while_fetching(error)
        if fetching:
            time.sleep(1)
    except RuntimeError as report:  # raised by torch's handler of SIGCHLD
        return killed_worker(report)
    found = re.search(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)', str(error), re.DOTALL)
    if found is not None:
        what = f'loader worker {found[1]} {found[2].split(".")[0].strip()}'
    elif fetching:
        what = 'a loader worker ended before its batch was fetched'
    else:
        return None
    return (
        f'{what}: most often the memory of the host was full (the kernel then kills processes), or '
        f'{SHARED_MEMORY}, {_shared_memory()}, was full; use a smaller '
        'train_dataloader.num_workers or batch_size, give the job more memory, or give the '
        'container a larger --shm-size'
    )


def _while_fetching(error: BaseException) -> bool:
    """Return whether an error comes from the connection to a worker, not from its work."""
    walk = traceback.walk_tb(error.__traceback__)
    files = [frame.f_code.co_filename for frame, _ in walk]
    return (
        any(file.endswith('torch/utils/data/dataloader.py') for file in files)
        and any(file.endswith(CONNECTIONS) for file in files)
        and 'Traceback' not in str(error)  # an error raised by a worker contains its traceback
    )


def _shared_memory() -> str:
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return 'which does not exist here'
    return f'with {usage.total >> 20} MiB, {usage.free >> 20} of them free'
