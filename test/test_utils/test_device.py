# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import mmengine.device.utils
import pytest
import torch
from mmengine.device import get_device

from mmface.utils.device import use_device


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """Return the best device of this machine; the choice of a test ends with the test."""
    monkeypatch.setattr(mmengine.device.utils, 'DEVICE', mmengine.device.utils.DEVICE)
    return get_device()


def test_use_device__auto_takes_the_best_one(found):
    assert use_device('auto') == found
    assert use_device(found) == found


def test_use_device__cpu_holds_for_all_of_mmengine():
    assert use_device('cpu') == 'cpu'
    assert get_device() == 'cpu'
    assert torch.zeros(1, device=get_device()).device.type == 'cpu'


@pytest.mark.parametrize(
    ('name', 'remedy'),
    [
        ('cuda', 'nvidia-smi'),
        ('npu', 'bash build_mmcv.sh --device npu'),
        ('tpu', 'choose one of auto, cpu, cuda, npu'),
    ],
)
def test_use_device__missing_one_names_the_found_one_and_the_remedy(found, name, remedy):
    if name == found:
        pytest.skip(f'{name} is there')
    with pytest.raises(ValueError, match=f"device '{name}'") as caught:
        use_device(name)
    assert f"only '{found}' was found" in str(caught.value)
    assert remedy in str(caught.value)
    assert get_device() == found
