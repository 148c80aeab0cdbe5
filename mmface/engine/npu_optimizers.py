# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Fused optimizers of NPUs."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch
from mmdet.registry import OPTIMIZERS


def use_fused(optimizer: dict[str, Any], logger: logging.Logger) -> bool:
    """Select the NPU's fused optimizer if there is one with these arguments.

    Args:
        optimizer: Config of an optimizer, changed in place.
        logger: Gets the name of the fused optimizer.
    """
    kind = OPTIMIZERS.get(f'NpuFused{optimizer["type"]}')
    if kind is None or not set(optimizer) <= {'type', *inspect.signature(kind).parameters}:
        return False
    optimizer['type'] = kind.__name__
    logger.info(f'Optimizer: {kind.__name__}')
    return True


def start_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter a gradient of zero.

    Fused optimizers never update a parameter that has no gradient in the first step.
    """
    for group in optimizer.param_groups:
        for param in group['params']:
            if param.requires_grad:
                param.grad = torch.zeros_like(param)
