# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The parts of tools/benchmark/gpu.sh see what they report."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import pytest
import torch
from mmface_benchmark.device import environment, parity, report
from mmface_benchmark.device.busy import BusyTimer, intervals, merged_seconds
from mmface_benchmark.device.settings import Settings
from mmface_benchmark.device.syncs import sync_places
from mmface_benchmark.step import make_batch

from mmface.apis.config import load_config


def settings(folder: Path) -> Settings:
    return Settings('cpu', True, folder, folder, folder / 'out.json')


def test_merged_seconds__overlaps_count_once():
    assert merged_seconds([]) == 0
    assert merged_seconds([(5, 6), (0, 2), (1, 3), (1, 2), (3, 4)]) == pytest.approx(5)


def test_intervals__kernels_and_copies_without_annotations():
    events = [
        {'ph': 'X', 'cat': 'kernel', 'ts': 1e6, 'dur': 5e5},
        {'ph': 'X', 'cat': 'gpu_user_annotation', 'ts': 0, 'dur': 9e6},
        {'ph': 'X', 'cat': 'gpu_memcpy', 'ts': 2e6, 'dur': 1e6},
        {'ph': 'f', 'cat': 'kernel', 'ts': 0},
    ]
    assert intervals(events, {'kernel', 'gpu_memcpy'}) == [(1.0, 1.5), (2.0, 3.0)]


def test_busy_timer__work_is_busy_and_sleep_is_not():
    values = torch.ones(300, 300)
    with BusyTimer('cpu') as timer:
        for _ in range(20):
            values @ values
    assert 0 < timer.busy <= timer.wall
    assert timer.launches >= 20


def test_sync_places__names_the_line_of_the_wait_only():
    with sync_places() as places:
        warnings.warn('called a synchronizing CUDA operation', stacklevel=1)
        warnings.warn('something else', stacklevel=1)
    (place,) = places
    assert place.startswith(f'{__file__}:')
    assert 'synchronizing' in place


def test_environment__an_operator_that_differs_is_a_fault(tmp_path, monkeypatch):
    def wrong(device: str) -> list[torch.Tensor]:
        wrong.calls += 1
        return [torch.tensor([1.0 + 0.001 * wrong.calls, 5.0])]

    wrong.calls = 0
    monkeypatch.setattr(environment, 'OPERATORS', {'wrong': wrong})
    where = settings(tmp_path)
    environment.run(where)
    assert where.failed == ['operator wrong (difference 2.0e-04 is above 1.0e-04)']


def test_part__a_failure_is_kept_and_the_next_part_runs(tmp_path):
    where = settings(tmp_path)
    where.part('one', lambda: 1 / 0)
    where.part('two', lambda: 2)
    assert where.failed == ['one (ZeroDivisionError: division by zero)']
    written = json.loads(where.out.read_text())
    assert 'test_device.py' in written['one']['error']
    assert written['two'] == 2


def test_largest_difference__another_number_of_results_is_infinite():
    sizes = iter((3, 4))
    found = environment.largest_difference(lambda _: [torch.ones(next(sizes))], 'cpu')
    assert found['difference'] == math.inf


def test_compare_step__sees_other_weights(monkeypatch):
    """The copy for the device gets slightly larger weights, as a faulty kernel would compute."""
    model = parity.build(load_config('scrfd_500m'), fixed_shape=False)
    batch = make_batch(1, (64, 64), 3)
    same = parity.compare_step(model, batch, 'cpu')
    assert same['loss_difference'] == same['gradient_difference'] == 0
    assert same['gradient_norm'] > 0

    def move(self, device):
        with torch.no_grad():
            for param in self.parameters():
                param.mul_(1.01)
        return self

    monkeypatch.setattr(type(model), 'to', move)
    other = parity.compare_step(model, batch, 'cpu')
    assert other['loss_difference'] > parity.TOLERANCE
    assert other['gradient_difference'] > parity.TOLERANCE


def test_section__failure_and_end_of_time_are_reported(tmp_path, repo, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', f'{repo}:{repo}/tools/benchmark')  # as gpu.sh does
    args = report.parse_args(['--device', 'npu', '--quick'])
    failed = report.start_section('environment', args, tmp_path, 600)
    assert not failed['ok']
    assert "device 'npu' was requested" in failed['error']
    assert failed['error'].endswith('exit status 1\n')
    late = report.start_section('environment', args, tmp_path, 0.01)
    assert not late['ok']
    assert 'the time was over' in late['error']
