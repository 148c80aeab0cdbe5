# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Losses in the log without a wait for the device in each iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch import Tensor

from mmface.engine.late_history import update_late


@HOOKS.register_module()
class LateRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook``, but it reads losses only when they are printed or saved.

    mmengine reads each loss, and the norm of clipped gradients, in every iteration. Then the host
    cannot prepare the next iteration while the device still works on this one. The log is the
    same. ``FaceRunner`` uses this hook in every run.
    """

    def before_train(self, runner: Runner) -> None:
        """Keep also the norm of the gradients on the device."""
        super().before_train(runner)
        wrapper = runner.optim_wrapper
        # A wrapper of several optimizers has no such function.
        if getattr(wrapper, 'clip_grad_kwargs', None):
            key = f'train/{wrapper.grad_name}'
            wrapper.clip_func = _logs_late(runner.message_hub, key, wrapper.clip_func)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Log the losses."""
        hub = runner.message_hub
        for name, value in (outputs or {}).items():
            if isinstance(value, Tensor):
                update_late(hub, f'train/{name}', value)
            else:
                hub.update_scalar(f'train/{name}', value)


def _logs_late(hub: MessageHub, key: str, clip: Callable) -> Callable:
    def clip_and_log(*args: Any, **kwargs: Any) -> None:
        norm = clip(*args, **kwargs)
        if norm is not None:  # None of 'value'
            update_late(hub, key, norm)
        # None, because the wrapper reads any other result.

    return clip_and_log
