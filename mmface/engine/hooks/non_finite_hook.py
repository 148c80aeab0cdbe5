# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Losses that are not finite: count them, name their cause, and end a training of only those."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NoReturn

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook

from mmface.engine.step_guard import StepGuard

#: Exit status of a training that ends because its loss is not finite any more.
NOT_FINITE = 3


class LossNotFiniteError(SystemExit):
    """The end of the training, with exit status ``NOT_FINITE``."""


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Keep NaN out of the weights, report its cause, and stop if it persists.

    :class:`.StepGuard` handles such a step. Its status stays on the device. Every ``interval``
    iterations the statuses are copied without waiting, and those copied ``interval`` iterations
    earlier are read. So a step is reported at most ``2 * interval`` iterations later, and before
    every validation and at the end of every epoch. The number of such steps is
    ``not_finite_steps`` in the message hub and in checkpoints.

    Args:
        max_in_row: After this number of such steps in a row, on any rank, all ranks stop with
            ``LossNotFiniteError``: exit status 3.
        interval: Iterations between two copies.

    Raises:
        ValueError: An argument is below 1.
    """

    priority = 'ABOVE_NORMAL'  # before weights are averaged or saved

    def __init__(self, max_in_row: int = 20, interval: int = 10) -> None:
        if max_in_row < 1 or interval < 1:
            raise ValueError(
                f'max_in_row and interval must be 1 or more, not {max_in_row} and {interval}'
            )
        self.max_in_row = max_in_row
        self.interval = interval
        self._guard: StepGuard | None = None
        self._in_row = 0
        self._steps: list[tuple[int, list[str], torch.Tensor]] = []
        self._sent: tuple[list[tuple[int, list[str]]], torch.Tensor, Any] | None = None

    def before_train(self, runner: Any) -> None:
        """Watch the model and the optimizer."""
        wrapper = runner.optim_wrapper
        scaler = getattr(wrapper, 'loss_scaler', None)
        scaled = scaler is not None and scaler.is_enabled()
        model = getattr(runner.model, 'module', runner.model)
        self._guard = StepGuard(model, None if scaled else wrapper.optimizer)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Keep the status of the step; every ``interval`` steps copy it to the host."""
        status = self._guard.end_step() if self._guard else None
        if status is not None:
            self._steps.append((runner.iter + 1, _image_names(data_batch), status))
        if len(self._steps) >= self.interval:
            self._send(runner)

    def after_train_epoch(self, runner: Any) -> None:
        """Read all remaining statuses."""
        self._flush(runner)

    def before_val_epoch(self, runner: Any) -> None:
        """Read all remaining statuses."""
        self._flush(runner)

    def after_train(self, runner: Any) -> None:
        """Read all remaining statuses and stop watching."""
        self._flush(runner)
        if self._guard:
            self._guard.remove()
            self._guard = None

    def _flush(self, runner: Any) -> None:
        self._send(runner)
        self._read(runner)

    def _send(self, runner: Any) -> None:
        """Read the statuses sent before and start to copy those that came since."""
        self._read(runner)
        if not self._steps:
            return
        status = torch.stack([item[2] for item in self._steps])
        good = status[:, :-2].isfinite().all(1) & (status[:, -2:] == 0).all(1)
        anywhere = (~good).float()
        all_reduce(anywhere, op='max')  # so that all ranks count the same
        table = torch.cat([status, anywhere[:, None]], 1)
        host, event = _copy_to_host(table)
        self._sent = [item[:2] for item in self._steps], host, event
        self._steps = []

    def _read(self, runner: Any) -> None:
        """Count and report the bad steps among those that were sent."""
        if self._sent is None or self._guard is None:
            return
        steps, host, event = self._sent
        self._sent = None
        if event is not None:
            event.synchronize()  # the copy was finished long ago
        rows = host.tolist()
        if not any(row[-1] for row in rows):
            self._in_row = 0
            return
        causes = [self._describe(row, images) for (_, images), row in zip(steps, rows, strict=True)]
        by_rank = all_gather_object(causes)
        for index, (iteration, _) in enumerate(steps):
            if not rows[index][-1]:
                self._in_row = 0
                continue
            self._in_row += 1
            self._report(runner, iteration, [causes[index] for causes in by_rank])
            if self._in_row >= self.max_in_row:
                self._stop(runner, iteration)

    def _describe(self, row: list[float], images: list[str]) -> str:
        """Return what was not finite in a step on this rank, or '' if all was finite."""
        *parts, statistics, gradients, _ = row
        names = zip(self._guard.names if self._guard else (), parts, strict=True)
        causes = [f'{name} = {value}' for name, value in names if not math.isfinite(value)]
        if statistics:
            causes.append('running statistics')
        if gradients and not causes:
            causes.append('gradients')
        return ', '.join(causes) + (f' (images {", ".join(images)})' if causes and images else '')

    def _report(self, runner: Any, iteration: int, causes: list[str]) -> None:
        hub = runner.message_hub
        count = hub.runtime_info.get('not_finite_steps', 0) + 1
        hub.update_info('not_finite_steps', count)
        several = len(causes) > 1
        where = [f'rank {rank}: {c}' if several else c for rank, c in enumerate(causes) if c]
        runner.logger.warning(
            f'iteration {iteration}: the loss is not finite; {"; ".join(where)}. The step is '
            f'skipped: {count} so far, {self._in_row} in a row; the training stops at '
            f'{self.max_in_row}'
        )

    def _stop(self, runner: Any, iteration: int) -> NoReturn:
        runner.logger.error(
            f'the loss was not finite in {self._in_row} steps in a row, up to iteration '
            f'{iteration}: the training stops with status {NOT_FINITE}. The checkpoints were saved '
            'before that; try a smaller learning rate, clip_grad, or another precision'
        )
        raise LossNotFiniteError(NOT_FINITE)


def _copy_to_host(table: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Start a copy to the host.

    Returns:
        The copy, and the event after which it is complete; None if it is already complete.
    """
    if table.device.type == 'cpu':
        return table, None
    host = table.to('cpu', non_blocking=True)
    event = torch.Event(table.device)
    event.record()
    return host, event


def _image_names(data_batch: Any) -> list[str]:
    samples: Iterable[Any] = ()
    if isinstance(data_batch, dict):
        samples = data_batch.get('data_samples') or ()
    paths = [getattr(sample, 'img_path', None) for sample in samples]
    return [str(path) for path in paths if path is not None]
