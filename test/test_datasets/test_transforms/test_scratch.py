# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Memory is reused, but never while an array still uses it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import torch

from mmface.datasets.transforms.scratch import Scratch


def place(array: np.ndarray) -> int:
    return array.__array_interface__['data'][0]


def test_take__the_same_memory_once_nobody_uses_it():
    scratch = Scratch()
    array = scratch.take(40, 50, 3)
    first = place(array)
    assert array.shape == (40, 50, 3)
    assert array.dtype == np.uint8
    del array
    assert place(scratch.take(10, 20)) == first


def test_take__other_memory_while_an_array_or_a_view_is_in_use():
    for hold in (
        lambda array: array,
        lambda array: array[5:, ::2],
        lambda array: array[2:4][0].reshape(-1),
        lambda array: torch.from_numpy(array).permute(2, 0, 1)[1:],
    ):
        scratch = Scratch()
        kept = hold(scratch.take(8, 9, 3))
        before = kept.copy() if isinstance(kept, np.ndarray) else kept.clone()
        for _ in range(3):
            other = scratch.take(8, 9, 3)
            assert not np.shares_memory(np.asarray(kept), other)
            other[:] = 255 - np.asarray(before).flat[0]
            del other
        assert (np.asarray(kept) == np.asarray(before)).all()


def test_take__grows():
    scratch = Scratch()
    for side in (4, 100, 10):
        assert scratch.take(side, side).shape == (side, side)


def test_scratch__copies_and_pickles_have_memory_of_their_own():
    scratch = Scratch()
    first = place(scratch.take(1000, 1000))
    for other in (copy.deepcopy(scratch), pickle.loads(pickle.dumps(scratch))):
        assert place(other.take(1000, 1000)) != first
    assert len(pickle.dumps(scratch)) < 1000
