# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Exponential moving average of float32 masters."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import EMAHook

from mmface.engine.master_weights import masters_as_weights


@HOOKS.register_module()
class MasterEMAHook(EMAHook):
    """``EMAHook`` that also works with O2: it averages the masters and keeps them exact.

    An average of half-precision weights does not change, because its steps are smaller than
    their resolution. mmengine exchanges weights and average before and after a validation,
    which would round the average. Without O2 this is ``EMAHook``.

    Args: see ``EMAHook``.
    """

    def before_run(self, runner: Any) -> None:
        """Create a float32 copy of the model."""
        model = runner.model
        with masters_as_weights(getattr(model, 'module', model)):
            super().before_run(runner)

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Update the average."""
        with masters_as_weights(self.src_model):
            super().after_train_iter(runner, *args, **kwargs)

    def _swap_ema_parameters(self) -> None:
        with masters_as_weights(self.src_model):
            super()._swap_ema_parameters()
