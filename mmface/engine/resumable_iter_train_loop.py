# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""An iteration loop that resumes where it was interrupted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
from mmdet.registry import LOOPS
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader

from mmface.engine.resumable_epoch_train_loop import seed_iteration, shared_seed
from mmface.engine.schedule_length import scale_schedule, scale_validation, warn_of_warmup


def validation_due(loop: IterBasedTrainLoop, done: int) -> bool:
    """Return whether ``loop`` validates after ``done`` iterations."""
    return (
        loop.runner.val_loop is not None
        and done >= loop.val_begin
        and (done % loop.val_interval == 0 or done == loop.max_iters)
    )


@LOOPS.register_module()
class ResumableIterTrainLoop(IterBasedTrainLoop):
    """``IterBasedTrainLoop`` whose resumed runs equal the uninterrupted run.

    The conditions are those of ``ResumableEpochTrainLoop``. ``EndlessBatchSampler`` determines
    the order of the batches and continues with the batch after the checkpoint. mmengine loads
    all batches before it again. This loop does the same with any other sampler.

    Args:
        runner: The runner.
        dataloader: As for ``IterBasedTrainLoop``.
        max_iters: Length for which the schedule of the config was made.
        num_epochs: Length in epochs instead. Schedule and validation are scaled to it.
        options: Others of ``IterBasedTrainLoop``.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int,
        num_epochs: int | None = None,
        **options: Any,
    ) -> None:
        if num_epochs is not None:
            if not isinstance(dataloader, DataLoader):
                per_rank = runner._randomness_cfg.get('diff_rank_seed', False)
                dataloader = runner.build_dataloader(dataloader, runner.seed, per_rank)
            length = num_epochs * len(dataloader)
            schedulers = runner.param_schedulers
            if isinstance(schedulers, dict):
                schedulers = [schedulers]
            if schedulers is not None:
                runner.param_schedulers = scale_schedule(schedulers, max_iters, length)
            options.setdefault('val_interval', 1000)  # the default of mmengine
            scale_validation(options, max_iters, length)
            print_log(f'{num_epochs} epochs are {length} iterations', logger='current')
            max_iters = length
        super().__init__(runner, dataloader, max_iters, **options)

    def run(self) -> torch.nn.Module:
        """Start training, at the position of the checkpoint if there is one."""
        runner = self.runner
        self.seed = shared_seed(runner)
        self._check_position()
        warn_of_warmup(self)
        self.dataloader_iterator = None  # mmengine's iterator, which may already be loading
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        batches = self._batches()
        if self._iter > 0 and validation_due(self, self._iter):
            runner.val_loop.run()  # a checkpoint is written before the validation that follows
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            if validation_due(self, self._iter):
                runner.val_loop.run()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def run_iter(self, data_batch: Any) -> None:
        """Run one mini-batch with random generators that depend only on its number."""
        seed_iteration(self.seed, self._iter, self.runner.rank)
        super().run_iter(data_batch)

    def _batches(self) -> Iterator[Any]:
        """Iterate over the batches from the current iteration on, without end."""
        batch_sampler = self.dataloader.batch_sampler
        sampler = getattr(batch_sampler, 'sampler', self.dataloader.sampler)
        sampler.seed = self.seed
        left_out = self._iter
        if hasattr(batch_sampler, 'start_at'):
            batch_sampler.start_at(left_out)
            left_out = 0
        for epoch in count():
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
            for data_batch in self.dataloader:
                if left_out:
                    left_out -= 1
                else:
                    yield data_batch

    def _check_position(self) -> None:
        """Warn if the number of an iteration now refers to other images."""
        batch_size = getattr(self.dataloader.batch_sampler, 'batch_size', None)
        cut = [batch_size, self.runner.world_size]
        hub = self.runner.message_hub
        # The hub's content is in the checkpoint, so after resuming it is the earlier value.
        before = list(hub.runtime_info.get('iteration_cut', cut))
        hub.update_info('iteration_cut', cut)
        if before != cut:
            print_log(
                f'The checkpoint was written with other (batch size, ranks), {before} and not '
                f'{cut}: continuing with iteration {self._iter + 1}, whose images are not those '
                'of the uninterrupted run',
                logger='current',
                level=logging.WARNING,
            )
