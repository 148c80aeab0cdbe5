# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Ranks exchange gradients while the backward pass goes on."""

from __future__ import annotations

import argparse

import pytest
from mmengine.device import get_device
from mmface_benchmark import ranks
from mmface_benchmark.rank_process import OURS, STATIC, TORCH, exchange

BACKWARD, LAUNCH = 'autograd::engine::evaluate_function: X', 'c10d::allreduce_'


def event(name, start, duration=1):
    return {'name': name, 'ts': start, 'dur': duration}


def test_exchange__counts_what_starts_before_the_last_function():
    events = [
        event(LAUNCH, 5),  # of the losses
        event(BACKWARD, 10, 20),
        event(LAUNCH, 12),
        event('gloo:all_reduce', 12, 8),
        event(BACKWARD, 30, 10),
        event(LAUNCH, 33),
        event('gloo:all_reduce', 34, 12),
    ]
    found = exchange(events, [300, 100])
    assert found == {
        'exchanges': 2,
        'bytes sent before the end': 0.75,
        'exchange time inside': pytest.approx((8 + 6) / 20),
    }
    with pytest.raises(ValueError, match='2 exchanges for 3 buckets'):
        exchange(events, [1, 1, 1])
    with pytest.raises(ValueError, match='no backward pass'):
        exchange(events[:1], [1])


@pytest.mark.slow
@pytest.mark.skipif(get_device() != 'cpu', reason='tests the ranks without devices')
@pytest.mark.parametrize(
    'config',
    (
        'scrfd/scrfd_500m_bnkps.py',
        'centerface/centerface_small.py',
        'centernet2/centernet2_toy.py',
    ),
)
def test_two_ranks__exchange_while_the_backward_pass_goes_on(repo, config):
    """The losses after three steps are the same bits, however the gradients travel.

    torch ends a step with an error if a parameter got no gradient in the step before.
    """
    parser = argparse.ArgumentParser()
    ranks.add_arguments(parser)
    parser.add_argument('--rounds', type=int, default=1)
    options = ['--ranks', '2', '--size', '128', '128', '--faces', '5']
    (found,) = ranks.run(parser.parse_args([str(repo / 'configs' / config), *options]))
    notes = found.notes
    assert notes[f'loss, {OURS}'] == notes[f'loss, {TORCH}'] == notes[f'loss, {STATIC}']
    sent = {name: notes[f'bytes sent before the end, {name}'] for name in (OURS, TORCH, STATIC)}
    assert sent[OURS] > 0.7
    assert sent[OURS] == sent[STATIC] >= sent[TORCH]
    assert notes[f'exchanges, {OURS}'] > notes[f'exchanges, {TORCH}'] > 0


def test_run__a_rank_that_fails_is_an_error(repo):
    parser = argparse.ArgumentParser()
    ranks.add_arguments(parser)
    parser.add_argument('--rounds', type=int, default=1)
    with pytest.raises(RuntimeError, match='does not exist'):
        ranks.run(parser.parse_args([str(repo / 'none.py'), '--ranks', '1']))
