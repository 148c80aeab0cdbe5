# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A log history that does not grow with the length of a run."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

#: Minimum number of values kept, for hooks that read a few earlier values.
AT_LEAST = 100


@HOOKS.register_module()
class BoundedHistoryHook(Hook):
    """Keep only those values of each logged scalar that the log can still need.

    mmengine keeps a million values of each scalar and copies all of them in every iteration.
    Near a million, an iteration takes 60 ms longer. Checkpoints contain the values and grow by
    130 to 160 bytes per iteration. This hook keeps the widest window of the log processor:
    ``window_size`` and the windows of ``custom_cfg``. In validation and test, times are averaged
    over the whole set, so there it keeps at least the number of batches. The log is the same.
    A scalar with the window 'global' in ``custom_cfg`` keeps its whole history.

    ``FaceRunner`` adds this hook to every run.
    """

    # Before the values are saved.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._lengths: dict[str, int] = {}
        self._unbounded: set[str] = set()

    def before_run(self, runner: Any) -> None:
        """Find the widest windows."""
        processor = runner.log_processor
        windows = [each.get('window_size') for each in processor.custom_cfg]
        self._unbounded = {
            each['data_src']
            for each in processor.custom_cfg
            if each.get('window_size') == 'global' or 'window_size' not in each
        }
        widest = max([AT_LEAST, processor.window_size, *(w for w in windows if isinstance(w, int))])
        self._lengths = dict.fromkeys(('train', 'val', 'test'), widest)
        for mode, loop in (
            ('train', runner._train_loop if 'epoch' in windows else None),
            ('val', runner._val_loop),
            ('test', runner._test_loop),
        ):
            if loop is not None and not isinstance(loop, dict):
                self._lengths[mode] = max(widest, len(loop.dataloader))

    def before_train(self, runner: Any) -> None:
        """Shorten a history that comes from a checkpoint."""
        self._bound(runner)

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Limit the history of new scalars."""
        self._bound(runner)

    def after_val_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Limit the history of new scalars."""
        self._bound(runner)

    def _bound(self, runner: Any) -> None:
        for key, buffer in runner.message_hub.log_scalars.items():
            mode, _, name = key.partition('/')
            length = self._lengths.get(mode)
            if length is None or buffer.max_length == length or name in self._unbounded:
                continue
            _cut(buffer, length)


def _cut(buffer: HistoryBuffer, length: int) -> None:
    buffer.max_length = length
    # From now on, mmengine does this at each update.
    buffer._log_history = buffer._log_history[-length:].copy()
    buffer._count_history = buffer._count_history[-length:].copy()
