# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The benchmark of training iterations runs what it reports."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmface_benchmark import iteration

from mmface.apis.config import load_config

CONFIG = Path(__file__).resolve().parents[2] / 'configs/scrfd/scrfd_500m_bnkps.py'


def test_run__times_every_batch_size():
    parser = argparse.ArgumentParser()
    iteration.add_arguments(parser)
    parser.add_argument('--rounds', type=int, default=1)
    text = [str(CONFIG), '--batch-sizes', '1', '2', '--sizes', '64', '--faces', '3']
    found = iteration.run(parser.parse_args(text))
    assert [comparison.task.split(',')[0] for comparison in found] == [
        'scrfd_500m_bnkps: batch 1',
        'scrfd_500m_bnkps: batch 2',
    ]
    for comparison in found:
        names = [timing.name for timing in comparison.timings]
        assert names == [iteration.NETWORK, iteration.ITERATION]


def test_measure_iterations__an_iteration_is_a_whole_one():
    cfg = load_config(str(CONFIG))
    cfg.model.data_preprocessor.pad_size = None

    def measure(runner, iterate):
        before = {name: value.clone() for name, value in runner.model.named_parameters()}
        iterate(iteration.make_batch(2, (64, 64), 3))
        changed = [n for n, v in runner.model.named_parameters() if not v.equal(before[n])]
        assert len(changed) > 0.5 * len(before)  # the learning rate is still tiny
        assert runner.iter == 1
        assert runner.message_hub.get_scalar('train/loss').current() > 0
        seen.append(True)

    seen: list[bool] = []
    iteration.measure_iterations(cfg, measure)
    assert seen
