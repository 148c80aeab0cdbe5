# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The loss scale and the number of skipped steps in the log."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from mmface.engine.o2_optim_wrapper import O2OptimWrapper


@HOOKS.register_module()
class LossScaleHook(Hook):
    """Log ``amp_scale`` and, with O2, ``skipped_steps`` (since the start of training).

    Both wait for the device, so they are read only every ``interval`` iterations. Nothing is
    logged for wrappers without a scaler.

    Args:
        interval: Iterations between two readings.
    """

    priority = 'NORMAL'

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def after_train_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Log the state of the scaler."""
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            return
        if self.every_n_inner_iters(batch_idx, self.interval):
            update = runner.message_hub.update_scalar
            update('train/amp_scale', scaler.get_scale())
            if isinstance(runner.optim_wrapper, O2OptimWrapper):
                update('train/skipped_steps', runner.optim_wrapper.skipped_steps)
