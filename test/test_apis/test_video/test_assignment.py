# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of the pairing of tracks and faces, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from mmface.apis.video.assignment import assign


@pytest.mark.parametrize('density', [0.05, 0.3, 1.0])
@pytest.mark.parametrize('seed', range(20))
def test_assign__the_pairs_of_scipy(density, seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 30, 2)
    gain = rng.uniform(0, 1, shape) * (rng.uniform(0, 1, shape) < density)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    expected = [(i, j) for i, j in zip(rows, columns, strict=True) if gain[i, j] > 0]
    assert assign(gain) == expected


def test_assign__the_best_single_pair_is_not_always_in_the_best_sum():
    assert assign(np.array([[0.9, 0.8], [0.8, 0.1]])) == [(0, 1), (1, 0)]


def test_assign__equal_values():
    """Any pairing of them is as good."""
    pairs = assign(np.ones((5, 3)))
    assert len(pairs) == 3
    assert sorted(column for _, column in pairs) == [0, 1, 2]


@pytest.mark.parametrize('shape', [(0, 0), (0, 3), (3, 0), (2, 2)])
def test_assign__nothing_to_pair(shape):
    assert assign(np.zeros(shape)) == []
