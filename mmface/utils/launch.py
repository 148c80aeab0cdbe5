# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run torchrun with the signals and exit statuses of a single process.

Usage: ``python -m mmface.utils.launch OPTIONS_OF_TORCHRUN SCRIPT ARGS...``

torchrun forwards SIGTERM and kills the ranks that still run 30 s later. SIGUSR1 ends torchrun
itself. It exits with 1 and a long report, whatever the exit statuses of the ranks. Here both
signals are sent to the ranks, which end by themselves. The exit status is that of the rank that
ended first: 75 after a stop that can be resumed, 128 + n after signal n.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from mmface.utils.cli import PREEMPTED
from mmface.utils.stop_signals import STOP_SIGNALS

#: Signals that torchrun handles.
TORCHRUN_SIGNALS = 'SIGINT,SIGHUP,SIGQUIT'


def main(argv: list[str] | None = None) -> int:
    """Run torchrun in this process and return the exit status."""
    args = parse_args(argv)
    args.signals_to_handle = TORCHRUN_SIGNALS
    for number in STOP_SIGNALS:
        signal.signal(number, _pass_on)
    try:
        run(args)
    except ChildFailedError as error:
        return _status(error)
    except SignalException as error:
        return 128 + error.sigval
    return 0


def _pass_on(number: int, frame: FrameType | None) -> None:
    """Send a signal to the ranks, or end if there are none yet."""
    ranks = _children()
    for pid in ranks:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    if not ranks:
        sys.exit(PREEMPTED)


def _children() -> list[int]:
    return [
        int(pid)
        for file in Path('/proc/self/task').glob('*/children')
        for pid in file.read_text().split()
    ]


def _status(error: ChildFailedError) -> int:
    """Return the exit status of the rank that ended first, and print it unless it was a stop."""
    rank, first = error.get_first_failure()
    code = first.exitcode
    if code == PREEMPTED:
        return code
    how = f'ended with status {code}'
    if code < 0:
        how = f'was ended by {signal.Signals(-code).name}'
        if -code == signal.SIGKILL:
            how += ', which the system also sends if the memory is full'
    sys.stderr.write(f'rank {rank} (process {first.pid}) {how}, and the other ranks with it\n')
    return 128 - code if code < 0 else code


if __name__ == '__main__':
    sys.exit(main())
