# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Batch norms become part of the convolutions before a test."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import fuse_conv_bn
from mmdet.registry import HOOKS
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop


@HOOKS.register_module()
class FuseConvBNHook(Hook):
    """Fold the batch norms of a model that is only tested into its convolutions.

    The network computes the same, but for rounding, in less time. Nothing is done where the model
    is trained too, where an average of the weights takes their place in the test (``EMAHook``),
    or where norms have another type than convolutions.

    mmcv folds a norm into the convolution that the same module has before it. That is right for all
    models of this repository; for one that uses them in another order set
    ``default_hooks = dict(fuse=dict(enabled=False))``.

    Args:
        enabled: Whether to do so at all.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def before_test(self, runner: Any) -> None:
        """Change the model; the weights are loaded by now."""
        trains = isinstance(runner._train_loop, BaseLoop)
        averages = any(isinstance(hook, EMAHook) for hook in runner.hooks)
        types = {parameter.dtype for parameter in runner.model.parameters()}
        if self.enabled and not trains and not averages and len(types) == 1:
            fuse_conv_bn(runner.model)
