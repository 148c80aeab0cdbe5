# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Signals are recorded at once, and a second one ends even a process that hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from mmface.utils.stop_signals import (
    COPIES,
    catch_stop_signals,
    release_stop_signals,
    stop_reason,
)

# The main thread waits in C for a lock that is never released: no Python code runs there.
HANG = """
import ctypes
from mmface.utils.stop_signals import catch_stop_signals
catch_stop_signals()
mutex = ctypes.create_string_buffer(64)
libc = ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
print('ready', flush=True)
libc.pthread_mutex_lock(mutex)
"""


@pytest.fixture
def hanging(repo):
    process = subprocess.Popen(
        [sys.executable, '-c', HANG],
        cwd=repo,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'ready\n'
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_second_signal__ends_a_process_that_hangs(hanging, number):
    hanging.send_signal(number)
    assert 'a second signal ends at once' in hanging.stderr.readline()
    time.sleep(COPIES + 0.1)
    assert hanging.poll() is None
    hanging.send_signal(number)
    assert hanging.wait(60) == 128 + number
    assert 'ended without a checkpoint' in hanging.stderr.readline()


def test_copies__of_the_first_signal_do_not_count(hanging):
    for _ in range(3):
        hanging.send_signal(signal.SIGTERM)
    time.sleep(COPIES + 0.5)
    assert hanging.poll() is None


def test_release__gives_the_handlers_back():
    release_stop_signals()  # what a training in this process may have left
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    catch_stop_signals()
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        end = time.monotonic() + 60
        while stop_reason() is None and time.monotonic() < end:
            time.sleep(0.001)
        assert stop_reason() == 'SIGUSR1'
    finally:
        release_stop_signals()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)] == before
    assert stop_reason() is None
