# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""In which order a model's weights lie in memory."""

from __future__ import annotations

import torch
from mmengine.config import Config
from torch import nn


def use_memory_format(model: nn.Module, cfg: Config, device: str) -> None:
    """Put the channels of the weights last, on the CPU and where the config asks for it.

    Convolutions on a CPU take 0.6 to 0.85 of the time with them (README, Speed); maps follow the
    weights. Operators of mmcv expect maps in the usual order and do not check it, so configs with
    such operators must not set ``cpu_channels_last``. Other devices keep the usual order.

    Args:
        model: Changed in place; shapes, names and checkpoints stay as they are.
        cfg: Of the run.
        device: Kind of device, such as ``'cpu'``.
    """
    if device == 'cpu' and cfg.get('cpu_channels_last', False):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
