# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Requests to stop a training run: recorded at once, handled at the end of an iteration.

A thread records SIGTERM and SIGUSR1 (which ``--signal`` of slurm sends). So a second signal
ends the process even while the main thread waits inside an operator. This module imports no
framework: a tool can call :func:`catch_stop_signals` before its slow imports.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
#: For this many seconds, further signals are copies of the first: a launcher and the system may
#: both send one to the same process.
COPIES = 1.0

_reason: str | None = None
_noted_at = 0.0
_former: dict[int, object] = {}
_pipe: tuple[int, int] | None = None


def catch_stop_signals() -> None:
    """Record SIGTERM and SIGUSR1 from now on. A second one exits with 128 + its number.

    Does nothing if it was called before, or outside the main thread, where Python handles no
    signals.
    """
    global _pipe
    if _former or threading.current_thread() is not threading.main_thread():
        return
    if _pipe is None:
        _pipe = os.pipe()
        os.set_blocking(_pipe[1], False)
        threading.Thread(target=_watch, args=(_pipe[0],), daemon=True).start()
        os.register_at_fork(after_in_child=_forget_in_child)
    for number in STOP_SIGNALS:
        _former[number] = signal.signal(number, _nothing)
    signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)


def release_stop_signals() -> None:
    """Undo :func:`catch_stop_signals` and forget the recorded signal."""
    global _reason
    if _former:
        signal.set_wakeup_fd(-1)
        for number in STOP_SIGNALS:
            signal.signal(number, _former.pop(number))  # type: ignore[arg-type]
    _reason = None


def ignore_stop_signals() -> None:
    """Ignore further signals, because everything is written and the process is about to end."""
    if _former:
        signal.set_wakeup_fd(-1)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def stop_reason() -> str | None:
    """Return the name of the signal that asks to stop, or None if there was none."""
    return _reason


def _nothing(number: int, frame: FrameType | None) -> None:
    """Replace the default action. The C part of Python's handler wakes the watcher thread."""


def _watch(pipe: int) -> None:
    global _reason, _noted_at
    while True:
        for number in os.read(pipe, 64):
            if number not in STOP_SIGNALS:  # other handlers of the process wake it too
                continue
            if _reason is None:
                _reason, _noted_at = signal.Signals(number).name, time.monotonic()
                _say(f'{_reason}: stopping after this iteration; a second signal ends at once')
            elif time.monotonic() - _noted_at > COPIES:
                _say(f'{signal.Signals(number).name} again: ended without a checkpoint')
                os._exit(128 + number)


def _say(text: str) -> None:
    sys.stderr.write(f'{text}\n')
    sys.stderr.flush()


def _forget_in_child() -> None:
    """Prevent a forked process, such as a loader worker, from waking its parent."""
    if _former:
        release_stop_signals()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
