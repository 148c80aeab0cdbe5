# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Fold batch norms into convolutions before a test."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop

from mmface.utils.fuse_norms import fuse_norms


@HOOKS.register_module()
class FuseConvBNHook(Hook):
    """Fold the batch norms of a model that is only tested into its convolutions.

    The network computes the same except for rounding, in less time. The hook does nothing if the
    model is also trained, if the test uses an average of the weights (``EMAHook``), or if norms
    and convolutions have different dtypes.

    A model whose outputs would change stays as it is, with a warning; see ``fuse_norms``. To skip
    the check and the folding, set ``default_hooks = dict(fuse=dict(enabled=False))``.

    Args:
        enabled: Whether to fold the norms.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def before_test(self, runner: Any) -> None:
        """Change the model, whose weights are already loaded."""
        trains = isinstance(runner._train_loop, BaseLoop)
        averages = any(isinstance(hook, EMAHook) for hook in runner.hooks)
        types = {parameter.dtype for parameter in runner.model.parameters()}
        if self.enabled and not trains and not averages and len(types) == 1:
            fuse_norms(runner.model)
