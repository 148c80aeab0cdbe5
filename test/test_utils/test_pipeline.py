# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of mmface/utils/pipeline.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mmface.utils.pipeline import Behind, PixelGate, ordered, read_ahead, usable_cores


def test_usable_cores__respects_the_affinity():
    code = 'from mmface.utils.pipeline import usable_cores; print(usable_cores())'
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        ['taskset', '-c', str(core), sys.executable, '-c', code], capture_output=True, check=True
    )
    assert int(done.stdout) == 1
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ('text', 'cores'),
    [('max 100000', 8), ('150000 100000', 2), ('10000 100000', 1), ('6400000 100000', 8), ('', 8)],
)
def test_usable_cores__respects_the_quota_of_a_container(text, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)))
    (tmp_path / 'cpu.max').write_text(text)
    assert usable_cores(tmp_path / 'cpu.max') == cores
    assert usable_cores(tmp_path / 'none') == 8


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_ordered__order_of_the_items_whatever_takes_longer(workers):
    def work(number):
        time.sleep(0.01 if number % 3 == 0 else 0)
        return number * number

    assert list(ordered(range(20), work, workers)) == [n * n for n in range(20)]
    assert list(ordered([], work, workers)) == []


def test_ordered__bounds_the_items_in_memory():
    lock, counts = threading.Lock(), {'read': 0, 'used': 0, 'most': 0}

    def items():
        for number in range(50):
            with lock:
                counts['read'] += 1
                counts['most'] = max(counts['most'], counts['read'] - counts['used'])
            yield number

    for _ in ordered(items(), lambda number: number, workers=2, ahead=3):
        time.sleep(0.001)  # a slow consumer
        with lock:
            counts['used'] += 1
    assert counts == {'read': 50, 'used': 50, 'most': 5}


def test_ordered__an_exception_keeps_its_place_and_stops_the_rest():
    started = []

    def work(number):
        started.append(number)
        if number == 5:
            raise RuntimeError('item 5')
        return number

    seen = []
    with pytest.raises(RuntimeError, match='item 5'):
        for number in ordered(range(1000), work, workers=2, ahead=2):
            seen.append(number)
    assert seen == [0, 1, 2, 3, 4]
    assert len(started) < 20


def test_ordered__waits_for_running_calls_when_the_caller_stops():
    finished = []

    def work(number):
        time.sleep(0.05)
        finished.append(number)
        return number

    results = ordered(range(100), work, workers=2)
    assert next(results) == 0
    results.close()
    count = len(finished)
    time.sleep(0.15)
    assert len(finished) == count <= 6


def test_pixel_gate__bounds_the_pixels_and_lets_large_images_through():
    gate, lock = PixelGate(100), threading.Lock()
    sizes = [30, 60, 10, 250, 50, 50, 50, 90, 5, 120] * 5
    now, most = [], []

    def work(size):
        with gate.hold(size):
            with lock:
                now.append(size)
                most.append(tuple(now))
            time.sleep(0.001)
            with lock:
                now.remove(size)
        return size

    assert list(ordered(sizes, work, workers=6)) == sizes
    assert all(sum(inside) <= 100 or len(inside) == 1 for inside in most)
    assert any(len(inside) > 1 for inside in most)
    assert gate.inside == 0


def test_pixel_gate__a_failure_frees_the_place():
    gate = PixelGate(100)
    with pytest.raises(RuntimeError), gate.hold(80):
        raise RuntimeError
    assert gate.inside == 0


def test_read_ahead__in_order_from_another_thread_and_bounded():
    made, threads = [], set()

    def items():
        for number in range(50):
            threads.add(threading.get_ident())
            made.append(number)
            yield number

    seen = []
    for number in read_ahead(items(), 3):
        time.sleep(0.001)  # a slow consumer
        assert len(made) <= number + 1 + 4
        seen.append(number)
    assert seen == list(range(50))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_read_ahead__an_exception_comes_behind_the_items_before_it():
    def items():
        yield from range(5)
        raise RuntimeError('item 5')

    seen = []
    with pytest.raises(RuntimeError, match='item 5'):
        for number in read_ahead(items(), 8):
            seen.append(number)
    assert seen == [0, 1, 2, 3, 4]


def test_read_ahead__closing_it_waits_for_the_item_that_is_being_made():
    state = {'open': True}

    def items():
        for number in range(100):
            time.sleep(0.01)
            assert state['open']
            yield number

    frames = read_ahead(items(), 4)
    assert next(frames) == 0
    frames.close()
    state['open'] = False
    threads = [thread.name for thread in threading.enumerate()]
    assert not [name for name in threads if name.startswith('mmface')]


def test_behind__does_all_calls_in_order_and_makes_the_owner_wait():
    done, ahead = [], []

    def work(number):
        time.sleep(0.001)
        done.append(number)

    with Behind(3) as behind:
        for number in range(30):
            behind.call(work, number)
            ahead.append(number + 1 - len(done))
    assert done == list(range(30))
    assert 1 < max(ahead) <= 4  # a call that has ended may not be counted yet


@pytest.mark.parametrize('last', [False, True])
def test_behind__raises_what_a_call_raises_and_does_no_further_one(last):
    done = []

    def work(number):
        if number == 5:
            raise RuntimeError('call 5')
        done.append(number)

    with pytest.raises(RuntimeError, match='call 5'), Behind(2) as behind:
        for number in range(6 if last else 1000):
            behind.call(work, number)
    assert done[:5] == [0, 1, 2, 3, 4]
    assert len(done) < 10


def test_behind__an_exception_of_the_owner_drops_what_waits():
    done = []

    def work(number):
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(KeyError), Behind(10) as behind:
        for number in range(10):
            behind.call(work, number)
        raise KeyError
    count = len(done)
    time.sleep(0.1)
    assert len(done) == count <= 2


def test_behind__an_interruption_while_it_waits_loses_no_item():
    done, go = [], threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it

    def work(number):
        go.wait(10)
        done.append(number)

    with Behind(1) as behind:
        behind.call(work, 0)
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            with pytest.raises(KeyboardInterrupt):
                behind.call(work, 1)
        finally:
            signal.signal(signal.SIGINT, before)
            go.set()
    assert done == [0, 1]
