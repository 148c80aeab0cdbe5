# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Choose the device by name."""

from __future__ import annotations

import mmengine.device.utils
from mmengine.device import get_device

DEVICES = ('auto', 'cpu', 'cuda', 'npu')
_REMEDIES = {
    'cuda': 'check that the driver works (nvidia-smi) and that torch was built for CUDA',
    'npu': 'source the set_env.sh of CANN and run bash build_mmcv.sh --device npu',
}


def use_device(name: str) -> str:
    """Make ``name`` the device that mmengine and mmface use from now on.

    Args:
        name: 'cpu', 'cuda', 'npu', or 'auto' for the best available device.

    Returns:
        The device in use.

    Raises:
        ValueError: The device is not available.
    """
    found = get_device()
    if name == 'cpu':
        mmengine.device.utils.DEVICE = 'cpu'
    elif name not in ('auto', found):
        remedy = _REMEDIES.get(name, f'choose one of {", ".join(DEVICES)}')
        raise ValueError(f"device '{name}' was requested, but only '{found}' was found: {remedy}")
    return get_device()
