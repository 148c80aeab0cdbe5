# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Order and resumption of the sampler, and the index that it returns."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from torch.utils.data import DataLoader

from mmface.datasets.samplers import EpochIndexSampler
from mmface.utils.epoch_index import EpochIndex


class _Numbers(BaseDataset):
    def __init__(self, count, **kwargs):
        self.count = count
        super().__init__(**kwargs)

    def load_data_list(self):
        return [{'value': i} for i in range(self.count)]


def _epoch(sampler, epoch, start=0):
    sampler.set_epoch(epoch)
    sampler.start_at(start)
    return [int(i) for i in sampler]


def _on_rank(monkeypatch, rank, world, **kwargs):
    monkeypatch.setattr('mmface.datasets.samplers.get_dist_info', lambda: (rank, world))
    return EpochIndexSampler(range(10), seed=3, **kwargs)


def test_iter__order_follows_seed_and_epoch():
    a, b = EpochIndexSampler(range(50), seed=1), EpochIndexSampler(range(50), seed=1)
    assert _epoch(a, 4) == _epoch(b, 4)
    assert sorted(_epoch(a, 4)) == list(range(50))
    assert _epoch(a, 4) != _epoch(a, 5)
    assert _epoch(a, 4) != _epoch(EpochIndexSampler(range(50), seed=2), 4)
    assert _epoch(EpochIndexSampler(range(5), shuffle=False, seed=0), 9) == [0, 1, 2, 3, 4]


def test_start_at__gives_the_rest_of_the_epoch_once_and_keeps_the_length():
    sampler = EpochIndexSampler(range(20), seed=0)
    whole = _epoch(sampler, 2)
    assert _epoch(sampler, 2, start=13) == whole[13:]
    assert [int(i) for i in sampler] == whole
    assert _epoch(sampler, 2, start=20) == []
    assert len(sampler) == 20


def test_iter__ranks_share_one_order(monkeypatch):
    parts = [_epoch(_on_rank(monkeypatch, rank, 4), 1) for rank in range(4)]
    assert [len(part) for part in parts] == [3, 3, 3, 3]
    assert set(itertools.chain(*parts)) == set(range(10))
    whole = _epoch(_on_rank(monkeypatch, 0, 1), 1)
    assert [parts[i % 4][i // 4] for i in range(10)] == whole


def test_iter__without_round_up_nothing_is_repeated(monkeypatch):
    samplers = [_on_rank(monkeypatch, rank, 4, round_up=False) for rank in range(4)]
    parts = [_epoch(sampler, 1) for sampler in samplers]
    assert sorted(itertools.chain(*parts)) == list(range(10))
    assert [len(sampler) for sampler in samplers] == [len(part) for part in parts] == [3, 3, 2, 2]


def test_round_up__more_ranks_than_images(monkeypatch):
    monkeypatch.setattr('mmface.datasets.samplers.get_dist_info', lambda: (6, 8))
    assert _epoch(EpochIndexSampler(range(3), shuffle=False, seed=0), 0) == [0]


def test_init__refuses_an_empty_data_set():
    with pytest.raises(ValueError, match='data set is empty'):
        EpochIndexSampler([])


@pytest.mark.parametrize('change', [copy.deepcopy, lambda i: pickle.loads(pickle.dumps(i))])
def test_epoch_index__survives_copies(change):
    index = change(EpochIndex(7, epoch=2, seed=9) - 3)
    assert (int(index), index.epoch, index.seed, index.origin) == (4, 2, 9, 7)


@pytest.mark.parametrize('serialize_data', [True, False])
def test_epoch_index__reaches_the_pipeline_through_wrappers(serialize_data):
    def dataset(count):
        return _Numbers(count, serialize_data=serialize_data)

    for wrapped, local in (
        (dataset(5), 4),
        (RepeatDataset(dataset(5), times=3), 4),
        (ConcatDataset([dataset(6), dataset(10)]), 8),
    ):
        position = len(wrapped) - 1 if local != 8 else 14
        index = wrapped[EpochIndex(position, epoch=1, seed=5)]['sample_idx']
        assert isinstance(index, EpochIndex)
        assert (int(index), index.epoch, index.seed, index.origin) == (local, 1, 5, position)


def test_epoch_index__reaches_workers():
    sampler = EpochIndexSampler(range(4), shuffle=False, seed=6)
    sampler.set_epoch(3)
    loader = DataLoader(_Numbers(4), sampler=sampler, num_workers=1, collate_fn=list)
    indices = [batch[0]['sample_idx'] for batch in loader]
    assert [(int(i), i.epoch, i.seed) for i in indices] == [(k, 3, 6) for k in range(4)]
