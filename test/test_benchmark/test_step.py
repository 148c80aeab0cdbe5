# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The benchmark of the training step runs what it reports."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from mmengine.config import Config
from mmface_benchmark import step

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize(
    ('config', 'ways'),
    (
        ('scrfd/scrfd_500m_bnkps.py', [step.NETWORK, step.STEP]),
        ('centerface/centerface_small.py', [step.NETWORK, step.STEP]),
        ('centernet2/centernet2_toy.py', [step.STEP, step.CASCADE]),
    ),
)
def test_run__times_both_ways(config, ways):
    parser = argparse.ArgumentParser()
    step.add_arguments(parser)
    parser.add_argument('--rounds', type=int, default=1)
    text = [str(CONFIGS / config), '--batch-size', '2', '--size', '128', '128', '--faces', '5']
    (found,) = step.run(parser.parse_args(text))
    assert [timing.name for timing in found.timings] == ways
    assert all(timing.median > 0 for timing in found.timings)


def test_step__changes_the_weights():
    cfg = Config.fromfile(CONFIGS / 'scrfd/scrfd_500m_bnkps.py')
    train, model = step.make_step(cfg, 'cpu')
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(step.make_batch(2, (128, 128), 5))
    changed = [n for n, value in model.named_parameters() if not value.equal(before[n])]
    assert len(changed) > 0.9 * len(before)
