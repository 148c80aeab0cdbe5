# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The seeds that SeedSample derives from an index."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mmface.datasets.transforms.seed_sample import SeedSample
from mmface.utils.epoch_index import EpochIndex


def _draw(index):
    SeedSample()({'sample_idx': index})
    return random.random(), np.random.rand()


def test_transform__draws_follow_from_seed_epoch_and_index():
    first = _draw(EpochIndex(3, epoch=1, seed=0))
    np.random.rand(100)
    assert _draw(EpochIndex(3, epoch=1, seed=0)) == first


@pytest.mark.parametrize(
    'other',
    [
        EpochIndex(4, epoch=1, seed=0),
        EpochIndex(3, epoch=2, seed=0),
        EpochIndex(3, epoch=1, seed=1),
        EpochIndex(1, epoch=3, seed=0),
        EpochIndex(13, epoch=1, seed=0) % 10,
    ],
    ids=['index', 'epoch', 'seed', 'swapped', 'copy_in_repeated_data_set'],
)
def test_transform__each_number_counts(other):
    a, b = _draw(EpochIndex(3, epoch=1, seed=0)), _draw(other)
    assert a[0] != b[0]
    assert a[1] != b[1]


def test_transform__leaves_generators_alone_for_a_plain_index():
    np.random.seed(5)
    expected = np.random.rand(2)
    np.random.seed(5)
    SeedSample()({'sample_idx': 0})
    np.testing.assert_array_equal(np.random.rand(2), expected)
