# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Optimizer wrappers on NPUs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS
from torch import nn


def build_npu_wrapper(
    model: nn.Module,
    optim_wrapper: dict[str, Any],
    build: Callable[[dict[str, Any]], Any] | None,
    log: Callable[[str], Any],
) -> Any:
    """Build the optimizer wrapper of a config for an NPU.

    ``SGD``, ``Adam`` and ``AdamW`` become ``NpuFusedSGD`` and so on if those are registered and
    know the arguments.

    Args:
        model: The model to train.
        optim_wrapper: Options of the wrapper, as in a config.
        build: Function that builds a wrapper of mmengine. On chips without full float32 support,
            it replaces every wrapper with ``AmpOptimWrapper``. None for mmface's own wrappers.
        log: Is told the optimizer that was chosen.
    """
    optim_wrapper = copy.deepcopy(optim_wrapper)
    fused = _fuse(optim_wrapper['optimizer'], log)
    if build is None:
        constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
            {
                'type': optim_wrapper.pop('constructor', 'DefaultOptimWrapperConstructor'),
                'paramwise_cfg': optim_wrapper.pop('paramwise_cfg', None),
                'optim_wrapper_cfg': optim_wrapper,
            }
        )
        built = constructor(model)
    else:
        built = build(optim_wrapper)
    for group in built.optimizer.param_groups if fused else ():
        for param in group['params']:
            # A parameter without a gradient in the first step would never be updated.
            if param.requires_grad:
                param.grad = torch.zeros_like(param)
    return built


def _fuse(optimizer: dict[str, Any], log: Callable[[str], Any]) -> bool:
    """Select the NPU's fused optimizer if there is one with these arguments."""
    kind = OPTIMIZERS.get(f'NpuFused{optimizer["type"]}')
    if kind is None or not set(optimizer) <= {'type', *inspect.signature(kind).parameters}:
        return False
    optimizer['type'] = kind.__name__
    log(f'Optimizer: {kind.__name__}')
    return True
