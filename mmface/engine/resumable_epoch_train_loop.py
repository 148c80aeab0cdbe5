# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""An epoch loop that can resume in the middle of an epoch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from mmdet.registry import LOOPS
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import BatchSampler

from mmface.engine.schedule_length import warn_of_warmup
from mmface.utils.seeding import derive_seed, seed_host_generators


def shared_seed(runner: Any) -> int:
    """Return the seed of a run, which is the same on all ranks.

    Ranks may have different seeds (``diff_rank_seed`` adds the rank), but the order of the
    samples must be the same on all.
    """
    return runner.seed - (runner.rank if runner._randomness_cfg.get('diff_rank_seed') else 0)


def seed_iteration(seed: int, iteration: int, rank: int) -> None:
    """Make the random numbers of the model in an iteration depend only on the arguments."""
    derived = derive_seed(seed, iteration, rank)
    seed_host_generators(derived)
    # Not torch.manual_seed: it also formats a stack trace for each kind of device that is not
    # used, which takes as long as a hundredth of a small network's step.
    torch.default_generator.manual_seed(derived)
    device = get_device()
    if device != 'cpu':
        module = getattr(torch, device)
        getattr(module, 'manual_seed_all', module.manual_seed)(derived)


@LOOPS.register_module()
class ResumableEpochTrainLoop(EpochBasedTrainLoop):
    """``EpochBasedTrainLoop`` whose resumed runs equal the uninterrupted run.

    mmengine restarts the interrupted epoch and does not save the state of random generators.
    This loop differs:

    * It continues with the batch after the checkpoint. The checkpoint may be from the end of an
      epoch or from an iteration within it (``SafeCheckpointHook(by_epoch=False)``).
    * The sample order follows the seed of the checkpoint (``EpochIndexSampler``), and each
      sample is augmented from (seed, epoch, index) (``SeedSample``).
    * The random numbers of the model in a step come from (seed, iteration, rank).

    With the same number of ranks and the same batch size, the weights then agree bit for bit on
    the CPU, for any number of workers. If one of these differs, the interrupted epoch is
    restarted. Gradients accumulated over several iterations are not in a checkpoint: save at
    multiples of ``accumulative_counts``.

    Args: see ``EpochBasedTrainLoop``.
    """

    def run(self) -> torch.nn.Module:
        """Start training, at the position of the checkpoint if there is one."""
        self.seed = shared_seed(self.runner)
        self._check_position()
        warn_of_warmup(self)
        return super().run()

    def run_epoch(self) -> None:
        """Iterate over the remaining batches of the epoch.

        There may be none: an iteration checkpoint at the last batch is older than the hooks and
        the validation at the end of the epoch, so those are run.
        """
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first = self._iter - self._epoch * len(self.dataloader)
        for idx, data_batch in enumerate(self._batches(first), start=first):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Run one mini-batch with random generators that depend only on its number."""
        seed_iteration(self.seed, self._iter, self.runner.rank)
        super().run_iter(idx, data_batch)

    def _batches(self, first: int) -> Iterator[Any]:
        """Iterate over the batches of the epoch, starting at number ``first``."""
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
        # Another sampler, or one that groups images: load the earlier batches and drop them.
        for idx, data_batch in enumerate(self.dataloader):
            if idx >= first:
                yield data_batch

    def _check_position(self) -> None:
        """Restart the epoch if a resumed position would now refer to other images."""
        length = len(self.dataloader)
        batch_size = getattr(self.dataloader.batch_sampler, 'batch_size', None)
        cut = [length, batch_size, self.runner.world_size]
        hub = self.runner.message_hub
        # The hub's content is in the checkpoint, so after resuming it is the earlier value.
        before = hub.runtime_info.get('epoch_cut', cut)
        hub.update_info('epoch_cut', cut)
        if list(before) != cut or not 0 <= self._iter - self._epoch * length <= length:
            print_log(
                f'The checkpoint was written with other (batches per epoch, batch size, ranks), '
                f'{list(before)} and not {cut}: continuing at the beginning of epoch '
                f'{self._epoch + 1}',
                logger='current',
                level=logging.WARNING,
            )
            self._iter = self._epoch * length
