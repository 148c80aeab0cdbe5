# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The stop-watch of the benchmarks."""

from __future__ import annotations

import json
import time

import pytest
from mmface_benchmark.timing import compare, format_table


def test_compare__measures_ratio_and_takes_turns():
    calls = []

    def way(name: str, seconds: float):
        def run() -> None:
            calls.append(name)
            time.sleep(seconds)

        return run

    ways = {'quick': way('quick', 0.002), 'slow': way('slow', 0.01)}
    found = compare('sleep', ways, rounds=4, warmup=1, notes={'unit': 's'})
    assert calls == ['slow', 'quick', 'quick', 'slow'] * 2 + ['slow', 'quick']
    quick, slow = found.timings
    assert quick.runs == slow.runs == 4
    assert 0.002 <= quick.low <= quick.median <= quick.high
    assert slow.median >= 0.01
    (ratio,) = found.ratios
    assert (ratio.ours, ratio.baseline) == ('quick', 'slow')
    assert 1 < ratio.median < 5.1
    assert json.loads(json.dumps(found.to_dict()))['notes'] == {'unit': 's'}
    text = format_table(found)
    assert 'x quick' in text
    assert 'unit: s' in text


def test_compare__waits_for_the_device_before_and_after():
    events = []
    compare(
        'order', {'way': lambda: events.append('run')}, 1, 0, synchronize=lambda: events.append('w')
    )
    assert events == ['w', 'run', 'w']


def test_compare__nothing_to_time_is_refused():
    with pytest.raises(ValueError, match='at least one way'):
        compare('nothing', {}, rounds=1)
