# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Losses stay on the device until they are needed; the log is that of mmengine."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch.utils._python_dispatch import TorchDispatchMode

from mmface.engine.late_history import LateHistoryBuffer, update_late
from mmface.utils.checkpoint import load_checkpoint_file

CLIP = {'max_norm': 0.5, 'norm_type': 2}
STOCK = {'runtime_info': {'type': 'RuntimeInfoHook'}}


class _CountReads(TorchDispatchMode):
    """Counts the operator by which ``item``, ``float`` and ``tolist`` read a value."""

    reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += 'local_scalar_dense' in str(func)
        return func(*args, **(kwargs or {}))


def _train(small_run, name, interval, hooks=None):
    hooks = {'logger': {'interval': interval}, **(hooks or {})}
    wrapper = {'clip_grad': CLIP}
    runner = small_run(name, epochs=3, default_hooks=hooks, optim_wrapper=wrapper)
    runner.train()
    return runner


def _rows(runner):
    lines = (Path(runner.log_dir) / 'vis_data/scalars.json').read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    keys = ('lr', 'loss', 'grad_norm', 'step', 'epoch', 'mean')
    return [{key: row[key] for key in keys if key in row} for row in rows]


@pytest.mark.parametrize('interval', [1, 4])
def test_log__is_that_of_mmengine(small_run, interval):
    late = _rows(_train(small_run, 'late', interval))
    assert late == _rows(_train(small_run, 'stock', interval, STOCK))
    assert sum('grad_norm' in row for row in late) == 3 * (6 // interval)


def test_training__reads_no_value_between_two_lines_of_the_log(small_run):
    def count(name, hooks):
        with _CountReads() as counter:
            _train(small_run, name, 6, hooks)
        return counter.reads

    # 18 iterations, each with a loss and a norm. Two first values, and two keys in three lines
    # of the log: these are read by both ways or not at all.
    without = count('stock', STOCK) - 2 * 18
    assert count('late', {}) <= without + 2


def test_checkpoint__has_ordinary_buffers(small_run):
    runner = _train(small_run, 'run', 4)
    saved = load_checkpoint_file(Path(runner.work_dir) / 'epoch_3.pth')
    stock = _train(small_run, 'stock', 4, STOCK)
    expected = load_checkpoint_file(Path(stock.work_dir) / 'epoch_3.pth')
    for key in ('train/loss', 'train/grad_norm'):
        buffer = saved['message_hub']['log_scalars'][key]
        assert type(buffer) is HistoryBuffer
        for ours, theirs in zip(
            buffer.data, expected['message_hub']['log_scalars'][key].data, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_buffer__mixed_values_keep_order_and_limit():
    values = [torch.tensor(1.5), 2, torch.tensor([3]), torch.tensor(4.25, dtype=torch.float64)]
    late, stock = LateHistoryBuffer(max_length=3), HistoryBuffer(max_length=3)
    for value in values:
        if isinstance(value, torch.Tensor):
            late.update_late(value)
            stock.update(value.item())
        else:
            late.update(value)
            stock.update(value)
    for buffer in (late, copy.deepcopy(late), pickle.loads(pickle.dumps(late))):
        np.testing.assert_array_equal(buffer.data, stock.data)
        assert (buffer.current(), buffer.mean(2), buffer.max_length) == (4.25, 3.625, 3)


def test_update_late__is_resumed_as_other_scalars():
    hub = MessageHub.get_instance('late')
    for value in (1.0, 2.0):
        update_late(hub, 'train/loss', torch.tensor(value))
    other = MessageHub.get_instance('other')
    other.load_state_dict(hub.state_dict())
    assert other.get_scalar('train/loss').data[0].tolist() == [1.0, 2.0]


def test_buffer__a_limited_number_of_tensors_waits(monkeypatch):
    monkeypatch.setattr('mmface.engine.late_history._MOST', 10)
    late = LateHistoryBuffer(max_length=30)
    for value in range(45):
        late.update_late(torch.tensor(float(value)))
        assert len(late._waiting) < 10
    assert late.data[0].tolist() == list(range(15, 45))


def test_update_late__names_a_value_that_is_no_scalar():
    hub = MessageHub.get_instance('vector')
    with pytest.raises(ValueError, match=r'train/loss: expected one element, found .*\(2,\)'):
        update_late(hub, 'train/loss', torch.ones(2))
