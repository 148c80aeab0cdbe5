# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Choice of the device by name."""

from __future__ import annotations

import mmengine.device.utils
from mmengine.device import get_device

DEVICES = ('auto', 'cpu', 'cuda', 'npu')


def use_device(name: str) -> str:
    """Make ``name`` the device that mmengine and mmface use from now on.

    Args:
        name: 'cpu', 'cuda', 'npu', or 'auto' for the best one that is there.

    Returns:
        The device in use.

    Raises:
        ValueError: There is no such device.
    """
    found = get_device()
    if name == 'cpu':
        mmengine.device.utils.DEVICE = 'cpu'
    elif name not in ('auto', found):
        raise ValueError(f"device '{name}' was asked for, but only '{found}' was found here")
    return get_device()
