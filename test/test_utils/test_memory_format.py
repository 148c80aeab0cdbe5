# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The memory order of weights."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmface.utils.memory_format import use_memory_format


@pytest.mark.parametrize(
    ('device', 'options', 'last'),
    [
        ('cpu', dict(cpu_channels_last=True), True),
        ('cpu', dict(cpu_channels_last=False), False),
        ('cpu', {}, False),
        ('npu', dict(cpu_channels_last=True), False),
    ],
)
def test_use__only_on_the_cpu_and_where_asked_for(device, options, last):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3))
    names = list(model.state_dict())
    values = [value.clone() for value in model.state_dict().values()]
    use_memory_format(model, Config(options), device)
    for conv in (model[0], model[2]):
        assert conv.weight.is_contiguous(memory_format=torch.channels_last) is last
    assert list(model.state_dict()) == names
    assert all(map(torch.equal, model.state_dict().values(), values))
    out = model(torch.rand(2, 3, 16, 16))
    assert out.is_contiguous(memory_format=torch.channels_last) is last
