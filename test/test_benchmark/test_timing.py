# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of the stopwatch of the benchmarks."""

from __future__ import annotations

import json
import time

import pytest
from mmface_benchmark.timing import compare, format_table


def test_compare__measures_ratio_and_takes_turns():
    calls = []
    now = 0.0

    def way(name: str, seconds: float):
        def run() -> None:
            nonlocal now
            calls.append(name)
            now += seconds

        return run

    ways = {'quick': way('quick', 0.25), 'slow': way('slow', 1.0)}
    found = compare('add', ways, rounds=4, warmup=1, notes={'unit': 's'}, clock=lambda: now)
    assert calls == ['slow', 'quick', 'quick', 'slow'] * 2 + ['slow', 'quick']
    quick, slow = found.timings
    assert quick.runs == slow.runs == 4
    assert quick.low == quick.median == quick.high == 0.25
    assert slow.median == 1.0
    (ratio,) = found.ratios
    assert (ratio.ours, ratio.baseline) == ('quick', 'slow')
    assert ratio.low == ratio.median == ratio.high == 4.0
    assert json.loads(json.dumps(found.to_dict()))['notes'] == {'unit': 's'}
    text = format_table(found)
    assert '4.00 x quick' in text
    assert 'unit: s' in text


def test_compare__clock_is_that_of_the_wall():
    (timing,) = compare('sleep', {'way': lambda: time.sleep(0.01)}, rounds=2, warmup=0).timings
    assert timing.low >= 0.01


def test_compare__waits_for_the_device_before_and_after():
    events = []
    compare(
        'order', {'way': lambda: events.append('run')}, 1, 0, synchronize=lambda: events.append('w')
    )
    assert events == ['w', 'run', 'w']


def test_compare__nothing_to_time_is_refused():
    with pytest.raises(ValueError, match='at least one way'):
        compare('nothing', {}, rounds=1)
