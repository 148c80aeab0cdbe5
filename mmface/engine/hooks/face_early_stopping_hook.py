# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Stop a training whose validation does not improve any more."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import CheckpointHook, EarlyStoppingHook


@HOOKS.register_module()
class FaceEarlyStoppingHook(EarlyStoppingHook):
    """``EarlyStoppingHook`` with defaults for average precision, and a count that is resumed.

    mmengine's hook stops a training whose AP grows by less than 0.1 each time, forgets its count
    when the run is resumed, and builds the training data set for a test.

    A checkpoint is written before the validation of its epoch. So a resumed run may have
    counted one validation less.

    Args:
        monitor: Name of the metric. By default it is that of ``save_best``.
        rule: 'greater' or 'less'.
        min_delta: Smallest improvement that counts.
        patience: Validations without an improvement after which the training stops.
        options: Others of ``EarlyStoppingHook``.
    """

    def __init__(
        self,
        monitor: str | None = None,
        rule: str = 'greater',
        min_delta: float = 0.001,
        patience: int = 5,
        **options: Any,
    ) -> None:
        super().__init__(
            monitor or '', rule=rule, min_delta=min_delta, patience=patience, **options
        )

    def before_run(self, runner: Any) -> None:
        """Do nothing: a test has no training loop."""

    def before_train(self, runner: Any) -> None:
        """Take the metric of ``save_best`` and the count of a resumed run.

        Raises:
            ValueError: No metric is given.
        """
        if not self.monitor:
            named = [
                key
                for hook in runner.hooks
                if isinstance(hook, CheckpointHook)
                for key in getattr(hook, 'key_indicators', None) or ()
                if key != 'auto'
            ]
            if not named:
                raise ValueError(
                    'early stopping needs a metric: set monitor, or save_best of the checkpoint '
                    'hook to the name of one'
                )
            self.monitor = named[0]
        count = runner.message_hub.runtime_info.get('early_stopping')
        if isinstance(count, dict):
            self.wait_count = int(count.get('wait_count', 0))
            best = count.get('best_score')
            self.best_score = self.best_score if best is None else float(best)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Stop the training if the metric has not improved for long enough."""
        if not self.monitor:  # a validation without training
            return
        super().after_val_epoch(runner, metrics or {})
        count = {'wait_count': self.wait_count, 'best_score': float(self.best_score)}
        runner.message_hub.update_info('early_stopping', count)
