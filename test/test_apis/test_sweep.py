# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of the decisions of a sweep over checkpoints."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mmface.apis.sweep import (
    find_checkpoints,
    find_devices,
    identify,
    link_best,
    only_one,
    read_result,
    visible_cards,
)
from mmface.evaluation.sweep_result import Checkpoint


@pytest.mark.parametrize(
    ('changes', 'numbers', 'missing'),
    [
        ({}, [2, 10, 30], []),
        (dict(start=5), [10, 30], []),
        (dict(end=10), [2, 10], []),
        (dict(start=10, step=10), [10, 30], ['epoch_20.pth']),
        (dict(start=10, end=50, step=20), [10, 30], ['epoch_50.pth']),
        (dict(by='iter'), [500], []),
    ],
)
def test_find__range_of_checkpoints(tmp_path, changes, numbers, missing):
    for name in ('epoch_10', 'epoch_2', 'epoch_30', 'iter_500', 'best_hard_epoch_7', 'epoch_x'):
        (tmp_path / f'{name}.pth').touch()
    (tmp_path / 'best.pth').symlink_to('epoch_10.pth')
    found, lost, by = find_checkpoints(tmp_path, **changes)
    assert [item.number for item in found] == numbers
    assert [item.path.name for item in found] == [f'{by}_{number}.pth' for number in numbers]
    assert lost == missing


def test_find__iterations_where_there_are_no_epochs_and_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match='has none'):
        find_checkpoints(tmp_path)
    (tmp_path / 'iter_7.pth').touch()
    assert find_checkpoints(tmp_path)[2] == 'iter'
    with pytest.raises(FileNotFoundError, match=r'from 8 to 9 in steps of 1: .* has iter_7.pth'):
        find_checkpoints(tmp_path, start=8, end=9, step=1)
    with pytest.raises(FileNotFoundError, match='is not a folder'):
        find_checkpoints(tmp_path / 'none')


def test_devices(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    first, second = find_devices('cpu,cpu')
    assert first.name == second.name == 'cpu'
    assert 1 <= int(first.env['OMP_NUM_THREADS']) <= max(os.cpu_count() // 2, 1)
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert find_devices('cpu')[0].env == {}, 'the choice of the user'
    assert find_devices('auto')[0].name == 'auto'
    for wrong in ('gpu', '0,cpu', '', '99'):
        with pytest.raises(ValueError, match=r'^devices'):
            find_devices(wrong)
    assert visible_cards(2, None) == ['0', '1']
    assert visible_cards(2, '4,7') == ['4', '7'], 'cards hidden from the sweep stay hidden'


def test_result__belongs_to_a_file_and_a_test(tmp_path):
    file = tmp_path / 'epoch_1.pth'
    file.write_bytes(b'weights')
    item = Checkpoint(file, 1, tmp_path / 'sweep' / 'epoch_1')
    assert not read_result(item, 'test')
    item.folder.mkdir(parents=True)
    content = dict(ap=dict(easy=0.5, medium=None, hard=0.25), of=identify(item, 'test'))
    result = item.folder / 'result.json'
    result.write_text(json.dumps(content))
    assert read_result(item, 'test')
    assert item.ap['hard'] == 0.25
    assert np.isnan(item.ap['medium'])
    assert not read_result(item, 'another')
    os.utime(file, ns=(1, 1))
    assert not read_result(item, 'test'), 'written again'
    result.write_text('{')
    assert not read_result(item, 'test')


def test_link__is_replaced_but_nothing_else_is(tmp_path):
    link = tmp_path / 'best.pth'
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        (tmp_path / name).touch()
        link_best(link, tmp_path / name)
        assert link.readlink() == Path(name)
    assert len(list(tmp_path.iterdir())) == 3, 'a temporary name was left'
    link.unlink()
    link.write_text('mine')
    with pytest.raises(ValueError, match='is not a link: move it away'):
        link_best(link, tmp_path / 'epoch_1.pth')
    assert link.read_text() == 'mine'


def test_sweep__only_one_at_a_time(tmp_path):
    with (
        only_one(tmp_path),
        pytest.raises(ValueError, match='another sweep is running'),
        only_one(tmp_path),
    ):
        pass
    with only_one(tmp_path):
        pass
