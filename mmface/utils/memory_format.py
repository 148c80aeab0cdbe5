# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Choose the memory order of a model's weights."""

from __future__ import annotations

import torch
from mmengine.config import Config
from torch import nn


def use_memory_format(model: nn.Module, cfg: Config, device: str) -> None:
    """Use channels-last weights on the CPU if the config asks for it.

    Convolutions on a CPU then take 0.6 to 0.85 of the time (README, Speed); feature maps get the
    same order. Operators of mmcv expect maps in the default order and do not check it. So configs
    with such operators must not set ``cpu_channels_last``. Other devices keep the default order.

    Args:
        model: Changed in place; shapes, names and checkpoints stay the same.
        cfg: Config of the run.
        device: Type of device, such as ``'cpu'``.
    """
    if device == 'cpu' and cfg.get('cpu_channels_last', False):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
