# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Endless batches: full, of one shape, and independent of the start position."""

from __future__ import annotations

from itertools import islice

import pytest
from torch.utils.data import SequentialSampler

from mmface.datasets.endless_batch_sampler import EndlessBatchSampler
from mmface.datasets.samplers import EpochIndexSampler

COUNT = 23


class _Shapes:
    """A data set in which every third image is wide and one is square."""

    def __len__(self):
        return COUNT

    def get_data_info(self, index):
        if index == 1:
            return dict(width=3, height=3)
        return dict(width=4, height=3) if index % 3 == 0 else dict(width=3, height=4)


def _batches(count, start=0, batch_size=4, by_shape=True, seed=5):
    sampler = EndlessBatchSampler(EpochIndexSampler(_Shapes(), seed=seed), batch_size, by_shape)
    sampler.start_at(start)
    return list(islice(sampler, count))


def test_batches__are_full_and_of_one_shape():
    for batch in _batches(60):
        assert len(batch) == 4
        assert len({index % 3 == 0 for index in batch}) == 1


def test_each_epoch_has_every_image_once():
    """Nothing is lost at the end of an epoch: waiting images go into a batch of the next one."""
    drawn = [(index.epoch, int(index)) for batch in _batches(60) for index in batch]
    assert len(set(drawn)) == len(drawn)
    for epoch in range(8):
        assert sorted(index for when, index in drawn if when == epoch) == list(range(COUNT))


def test_without_shapes__the_order_is_that_of_the_sampler():
    sampler = EpochIndexSampler(_Shapes(), seed=5)
    expected = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected += list(sampler)
    drawn = [index for batch in _batches(12, by_shape=False) for index in batch]
    assert drawn == expected[:48]
    assert [index.epoch for index in drawn] == [index.epoch for index in expected[:48]]


@pytest.mark.parametrize('start', [1, 5, 6, 40])
@pytest.mark.parametrize('by_shape', [False, True])
def test_start_at__goes_on_as_if_unbroken(start, by_shape):
    unbroken = _batches(start + 10, by_shape=by_shape)
    resumed = _batches(10, start, by_shape=by_shape)
    assert resumed == unbroken[start:]
    assert [[i.epoch for i in batch] for batch in resumed] == [
        [i.epoch for i in batch] for batch in unbroken[start:]
    ]


def test_next_iteration__begins_anew():
    sampler = EndlessBatchSampler(EpochIndexSampler(_Shapes(), seed=5), 4)
    sampler.start_at(3)
    first = next(iter(sampler))
    assert next(iter(sampler)) != first
    assert len(sampler) == 6


def test_refuses():
    with pytest.raises(ValueError, match="needs sampler=dict\\(type='EpochIndexSampler'\\)"):
        EndlessBatchSampler(SequentialSampler(_Shapes()), 4)
    with pytest.raises(ValueError, match=r'batch_size.* 0'):
        EndlessBatchSampler(EpochIndexSampler(_Shapes(), seed=5), 0)
