# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from mmface.utils.pickled_tensors import read_pickled_tensors


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool]
)
def test_read_pickled_tensors__tensors_become_arrays(tmp_path, dtype, protocol):
    whole = (torch.arange(24).reshape(4, 6) % 2).to(dtype)
    tensors = [whole, whole[1:3, ::2], whole.t(), whole[:0], torch.tensor(1).to(dtype)]
    value = {'a': tensors, 'b': (1, 'x', None, 2.5), 'c': OrderedDict(d=np.arange(3.0))}
    value['d'] = np.float32(2.5)
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(value, protocol))
    found = read_pickled_tensors(tmp_path / 'a.pkl')
    for got, tensor in zip(found['a'], tensors, strict=True):
        assert got.dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(got, tensor.numpy())
    assert found['b'] == value['b']
    assert found['c']['d'].tolist() == [0, 1, 2]
    assert found['d'] == 2.5


class Evil:
    def __reduce__(self):
        return os.system, ('touch was_here',)


def rebuilt(offset: int, size: tuple, stride: tuple):
    class Forged:
        def __reduce__(self):
            storage = torch.zeros(4).storage()
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, None)

    return Forged()


@pytest.mark.parametrize(
    'value',
    [
        Evil(), {'pred_instances': Evil()}, rebuilt(0, (5,), (1,)), rebuilt(3, (2,), (1,)),
        rebuilt(0, (2, 2), (3, 1)), rebuilt(0, (-1,), (1,)), rebuilt(0, (1 << 60,), (0,)),
        rebuilt(-1, (1,), (1,)), torch.nn.Linear(1, 1),
    ],
)  # fmt: skip
def test_read_pickled_tensors__other_objects_are_refused(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(value))
    with pytest.raises(ValueError, match='expected a pickle of tensors and plain values'):
        read_pickled_tensors(tmp_path / 'a.pkl')
    assert not (tmp_path / 'was_here').exists()


def test_read_pickled_tensors__damaged_files_are_refused(tmp_path):
    whole = pickle.dumps([torch.arange(9.0)])
    for end in range(0, len(whole) - 1, 7):
        (tmp_path / 'a.pkl').write_bytes(whole[:end])
        with pytest.raises(ValueError, match='expected a pickle'):
            read_pickled_tensors(tmp_path / 'a.pkl')
    with pytest.raises(FileNotFoundError):
        read_pickled_tensors(tmp_path / 'b.pkl')
