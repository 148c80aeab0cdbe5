# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Which rank is reported. Ranks that are really stuck are in test/faults/worker_cases.py."""

from __future__ import annotations

import threading

from mmface.engine.hooks.rank_watch_hook import RankState, blame


def _states(*steps, beat=5):
    return {
        rank: RankState(step, f'training iteration {step}', beat, f'host, {100 + rank}')
        for rank, step in enumerate(steps)
    }


def test_blame__the_one_that_is_behind():
    states = _states(8, 7, 8)
    text = blame(states, dict.fromkeys(states, 3), 3, 60)
    assert text == (
        'no progress for 60 s (env_cfg.dist_cfg.timeout); all wait for rank 1 (host, 101; at '
        'training iteration 7)'
    )


def test_blame__the_one_that_is_silent():
    states = _states(8, 8)
    text = blame(states, {0: 3, 1: 5}, 2, 60)
    assert 'no sign of life from rank 1 (host, 101' in text


def test_blame__the_one_that_never_came():
    text = blame(_states(8), {0: 3}, 2, 60)
    assert 'no sign of life from rank 1 (no state received)' in text


def test_blame__nobody_if_all_are_at_the_same_place():
    states = _states(8, 8)
    text = blame(states, {0: 3, 1: 3}, 2, 60)
    assert 'all ranks are at training iteration 8: the stacks' in text


def test_one_rank__has_no_watch(small_run):
    before = threading.active_count()
    runner = small_run('run', epochs=1)
    runner.train()
    assert threading.active_count() <= before + 1  # the thread of the stop signals
