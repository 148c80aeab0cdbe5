# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Options of the wrapper for several ranks."""

from __future__ import annotations

import mmengine.device.utils
import pytest
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from torch import nn

from mmface.engine.dist import BUCKETS, LARGEST_BUCKET, gradient_bytes, wrapper_options


@pytest.fixture
def small():
    model = nn.Sequential(nn.Linear(1023, 1024), nn.Linear(1023, 1024))
    for param in model[1].parameters():
        param.requires_grad = False
    return model


def test_gradient_bytes__of_trained_parameters_in_their_type(small):
    assert gradient_bytes(small) == 1024 * 1024 * 4
    assert gradient_bytes(small.half()) == 1024 * 1024 * 2


def test_wrapper_options__an_eighth_of_the_gradients_or_the_size_of_torch(small):
    assert wrapper_options(small, Config())['bucket_cap_mb'] == pytest.approx(4 / BUCKETS)
    large = nn.Linear(10_000, 10_000, device='meta')
    assert wrapper_options(large, Config())['bucket_cap_mb'] == LARGEST_BUCKET


def test_wrapper_options__the_config_comes_first(small, monkeypatch):
    monkeypatch.setattr(mmengine.device.utils, 'DEVICE', 'cpu')
    found = wrapper_options(small, Config(dict(find_unused_parameters=True)), {'bucket_cap_mb': 3})
    assert found == {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': True,
        'bucket_cap_mb': 3,
        'device_ids': None,
    }
    other = {'type': 'MMSeparateDistributedDataParallel', 'static_graph': True}
    assert wrapper_options(small, Config(), other) == {**other, 'device_ids': None}
    # Other names of the same wrapper.
    for kind in ('mmengine.MMDistributedDataParallel', MMDistributedDataParallel):
        found = wrapper_options(small, Config(), {'type': kind})
        assert found['broadcast_buffers'] is False
    other = {'type': 'MMFullyShardedDataParallel'}
    assert wrapper_options(small, Config(), other) == other
    monkeypatch.setattr(mmengine.device.utils, 'DEVICE', 'cuda')
    assert 'device_ids' not in wrapper_options(small, Config())
