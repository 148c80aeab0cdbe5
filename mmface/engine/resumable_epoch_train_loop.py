# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""An epoch loop that continues in the middle of an epoch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from mmdet.registry import LOOPS
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import BatchSampler

from mmface.utils.seeding import derive_seed, seed_host_generators


def shared_seed(runner: Any) -> int:
    """Give the seed of a run, which is the same on all ranks.

    Ranks may have seeds of their own (``diff_rank_seed`` adds the rank), but the order of the
    samples has to be the same on all.
    """
    return runner.seed - (runner.rank if runner._randomness_cfg.get('diff_rank_seed') else 0)


def seed_iteration(seed: int, iteration: int, rank: int) -> None:
    """Make what the model draws in an iteration depend on these three numbers only."""
    derived = derive_seed(seed, iteration, rank)
    seed_host_generators(derived)
    torch.manual_seed(derived)


@LOOPS.register_module()
class ResumableEpochTrainLoop(EpochBasedTrainLoop):
    """``EpochBasedTrainLoop`` whose resumed runs equal the unbroken run.

    mmengine begins the interrupted epoch anew and saves no generator state. Here

    * the loop goes on with the batch after the checkpoint, whether an epoch's end or an
      iteration in its middle was saved (``SafeCheckpointHook(by_epoch=False)``);
    * the sample order follows the seed of the checkpoint (``EpochIndexSampler``), and each
      sample is augmented from (seed, epoch, index) (``SeedSample``);
    * what the model draws in a step comes from (seed, iteration, rank).

    With the same number of ranks and the same batch size the weights then agree bit for
    bit on the CPU, whatever the number of workers. With another number the interrupted
    epoch begins anew. Gradients accumulated over several iterations are not in a
    checkpoint: save at multiples of ``accumulative_counts``.

    Args: see ``EpochBasedTrainLoop``.
    """

    def run(self) -> torch.nn.Module:
        """Launch training where the checkpoint, if any, was written."""
        self.seed = shared_seed(self.runner)
        self._check_position()
        return super().run()

    def run_epoch(self) -> None:
        """Iterate over what is left of the epoch.

        Nothing may be left: an iteration checkpoint at the last batch is older than the
        hooks and the validation at the epoch's end, so those are run.
        """
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first = self._iter - self._epoch * len(self.dataloader)
        for idx, data_batch in enumerate(self._batches(first), start=first):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Iterate one mini-batch with generators that depend on its number only."""
        seed_iteration(self.seed, self._iter, self.runner.rank)
        super().run_iter(idx, data_batch)

    def _batches(self, first: int) -> Iterator[Any]:
        """Give the batches of the epoch from number ``first`` on."""
        sampler = self.dataloader.sampler
        batch_sampler = self.dataloader.batch_sampler
        if batch_sampler is not None and type(batch_sampler) is not BatchSampler:
            sampler = getattr(batch_sampler, 'sampler', sampler)
        sampler.seed = self.seed
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(self._epoch)
        if hasattr(sampler, 'start_at') and type(batch_sampler) is BatchSampler:
            sampler.start_at(first * batch_sampler.batch_size)
            if first < len(self.dataloader):
                yield from self.dataloader
            return
        # Another sampler, or one that groups images: load the batches and drop them.
        for idx, data_batch in enumerate(self.dataloader):
            if idx >= first:
                yield data_batch

    def _check_position(self) -> None:
        """Begin the epoch anew if a resumed position means other images now."""
        length = len(self.dataloader)
        batch_size = getattr(self.dataloader.batch_sampler, 'batch_size', None)
        cut = [length, batch_size, self.runner.world_size]
        hub = self.runner.message_hub
        # The hub's content is in the checkpoint, so on resume this is what was used there.
        before = hub.runtime_info.get('epoch_cut', cut)
        hub.update_info('epoch_cut', cut)
        if list(before) != cut or not 0 <= self._iter - self._epoch * length <= length:
            print_log(
                f'The checkpoint was written with other (batches per epoch, batch size, ranks), '
                f'{list(before)} and not {cut}: going on at the beginning of epoch '
                f'{self._epoch + 1}',
                logger='current',
                level=logging.WARNING,
            )
            self._iter = self._epoch * length
