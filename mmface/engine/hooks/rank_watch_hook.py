# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Report which rank is stuck instead of waiting forever."""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from torch.distributed import TCPStore

#: Exit status of ranks that end because one is stuck.
STUCK = 4


@dataclass
class RankState:
    """State that a rank publishes.

    Attributes:
        steps: Number of marks passed: starts and ends of iterations and similar events.
        place: The last mark in words.
        beat: Counter that increases as long as the process runs.
        who: Host and process id.
    """

    steps: int
    place: str
    beat: int
    who: str


@HOOKS.register_module()
class RankWatchHook(Hook):
    """End a job of several ranks that makes no progress, and name the rank that is stuck.

    A thread of each rank publishes its progress through the store with which the ranks found
    each other. If its own rank makes no progress for ``timeout`` seconds, it reads the states of
    the others. Ranks that wait for another have passed more marks than it. A rank whose process
    is stopped or whose host is lost publishes nothing new. Each rank then writes which ranks are
    behind and where, with the stacks of its own threads, and ends with status 4. The training
    step is not changed.

    The timeout covers everything that a rank may wait for: loading data, kernels compiled in the
    first step, and the evaluation, the plots and the checkpoint of rank 0. With one rank there is
    no watch. ``FaceRunner`` adds this hook to every run.

    Args:
        timeout: Seconds without progress; None takes ``env_cfg.dist_cfg.timeout`` (600 if
            that is missing).
    """

    priority = 'VERY_HIGH'

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout
        self._state = RankState(0, 'the start', 0, f'{socket.gethostname()}, {os.getpid()}')
        self._moved_at = time.monotonic()
        self._over: threading.Event | None = None

    def before_run(self, runner: Any) -> None:
        """Start the watch."""
        if runner.world_size == 1:
            return
        if self.timeout is None:
            self.timeout = float(
                runner.cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 600)
            )
        self._mark('the start of the run')
        self._over = threading.Event()
        arguments = (runner.rank, runner.world_size, self.timeout, self._over)
        threading.Thread(target=self._watch, args=arguments, daemon=True).start()

    def after_run(self, runner: Any) -> None:
        """End the watch."""
        if self._over is not None:
            self._over.set()

    def before_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Record that the data of an iteration was loaded."""
        self._mark(f'training iteration {runner.iter + 1}, data loaded')

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Record that an iteration is over."""
        self._mark(f'the end of training iteration {runner.iter + 1}')

    def before_val_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Record that a validation batch was loaded."""
        self._mark(f'validation batch {batch_idx + 1}')

    def before_test_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Record that a test batch was loaded."""
        self._mark(f'test batch {batch_idx + 1}')

    def before_save_checkpoint(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Record that a checkpoint is being written."""
        self._state.place = 'the writing of a checkpoint'
        self._moved_at = time.monotonic()

    def after_val_epoch(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Record that the validation is over."""
        self._mark('the end of a validation')

    def _mark(self, place: str) -> None:
        self._state.steps += 1
        self._state.place = place
        self._moved_at = time.monotonic()

    def _watch(self, rank: int, ranks: int, timeout: float, over: threading.Event) -> None:
        # A separate connection: waiting calls would block those of the process group.
        store = TCPStore(
            os.environ['MASTER_ADDR'],
            int(os.environ['MASTER_PORT']),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=30),
        )
        pause = min(timeout / 10, 10.0)
        beats: dict[int, int] = {}
        store.set(f'mmface/{rank}', json.dumps(vars(self._state)))
        while not over.wait(pause):
            try:
                still = time.monotonic() - self._moved_at
                self._state.beat += 1
                store.set(f'mmface/{rank}', json.dumps(vars(self._state)))
                if still < timeout / 2:
                    continue
                states = {
                    each: RankState(**json.loads(store.get(f'mmface/{each}')))
                    for each in range(ranks)
                    if store.check([f'mmface/{each}'])
                }
            except RuntimeError:  # the store no longer exists, so the job has ended
                return
            if still < timeout:  # a beat above these values is a sign of life
                beats = {each: state.beat for each, state in states.items()}
                continue
            if over.is_set():
                return
            sys.stderr.write(f'rank {rank}: {blame(states, beats, ranks, timeout)}\n')
            sys.stderr.flush()
            faulthandler.dump_traceback(sys.stderr)
            time.sleep(2 * pause)  # until the other ranks have written their report
            os._exit(STUCK)


def blame(states: dict[int, RankState], beats: dict[int, int], ranks: int, timeout: float) -> str:
    """Return a message that names the ranks for which the others wait.

    Args:
        states: Last published state of each rank.
        beats: Earlier value of ``beat`` of each rank.
        ranks: Number of ranks.
        timeout: Seconds without progress, for the message.
    """
    silent = [
        each
        for each in range(ranks)
        if each not in states or states[each].beat == beats.get(each, -1)
    ]
    least = min((state.steps for state in states.values()), default=0)
    behind = [each for each, state in states.items() if state.steps == least]
    text = f'no progress for {timeout:g} s (env_cfg.dist_cfg.timeout); '
    if silent:
        return f'{text}no sign of life from {_names(silent, states)}'
    if len(behind) < ranks:
        return f'{text}all wait for {_names(behind, states)}'
    return (
        f'{text}all ranks are at {states[behind[0]].place}: the stacks show which rank does not '
        'wait for the others'
    )


def _names(ranks: list[int], states: dict[int, RankState]) -> str:
    return ', '.join(
        f'rank {each} ({states[each].who}; at {states[each].place})'
        if each in states
        else f'rank {each} (no state received)'
        for each in ranks
    )
