# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Images per second of a training."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.device import get_device
from mmengine.hooks import Hook

from mmface.utils.files import write_text

#: The file that the hook writes in the work dir.
THROUGHPUT_FILE = 'throughput.json'


@dataclass
class _Tally:
    """Iterations, images and seconds of this rank while the clock ran."""

    iterations: int = 0
    images: int = 0
    seconds: float = 0.0

    def add(self, other: _Tally) -> None:
        self.iterations += other.iterations
        self.images += other.images
        self.seconds += other.seconds

    def figures(self, world_size: int) -> dict[str, Any]:
        """Return the numbers of all ranks together; seconds are wall time."""
        images = world_size * self.images
        return {
            'images_per_second': images / self.seconds,
            'seconds_per_iteration': self.seconds / self.iterations,
            'iterations': self.iterations,
            'images': images,
            'seconds': self.seconds,
        }


@dataclass
class _Epoch:
    """One epoch: its warm-up iterations and the measured ones."""

    number: int
    warm: _Tally = field(default_factory=_Tally)
    steady: _Tally = field(default_factory=_Tally)


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Measure the throughput of a training: ranks x images of one rank / wall time.

    Loading the data, every hook and logging are included. Validation and writing checkpoints
    are not. The first iterations of each epoch are skipped: they start the workers and, once,
    compile or choose kernels. The images are counted, so a smaller last batch counts with its
    real size. With accumulated gradients an iteration is one batch, not one update. The hook
    waits for the device only at the start and the end of a measured period.

    After each epoch the hook writes a line in the log, the scalar ``train/throughput``
    (images/s) and, on rank 0, ``throughput.json`` in the work dir:

    * ``images_per_second``, ``seconds_per_iteration``, ``iterations``, ``images``,
      ``seconds``: of all epochs together; ``epochs``: the same for each epoch, with its number;
    * ``world_size``, ``batch_size_per_card``, ``device``;
    * ``warmup_left_out``: number of iterations skipped in each epoch. An epoch with at most
      this number of iterations has no result. If all epochs are that short, all their
      iterations count and this value is 0.

    The results are final: world size and batch size are included. They are those of one
    process: a resumed run counts from zero. A loop over iterations is one long epoch.

    Args:
        warmup: Number of iterations to skip at the beginning of each epoch.

    Raises:
        ValueError: ``warmup`` is negative.
    """

    # After the checkpoint hook, so that an iteration ends after its checkpoint is written.
    priority = 'LOWEST'

    def __init__(self, warmup: int = 5) -> None:
        if warmup < 0:
            raise ValueError(f'warmup must be 0 or more iterations, not {warmup}')
        self.warmup = warmup
        self._epochs: list[_Epoch] = []
        self._tally: _Tally | None = None  # None: between epochs
        self._since: float | None = None  # None: the clock is stopped
        self._largest_batch = 0

    def before_train(self, runner: Any) -> None:
        """Reset the counts of an earlier training."""
        self._epochs = []
        self._tally = self._since = None

    def before_train_epoch(self, runner: Any) -> None:
        """Start the clock."""
        self._epochs.append(_Epoch(runner.epoch + 1))
        self._tally = self._epochs[-1].warm if self.warmup else self._epochs[-1].steady
        self._start()

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Count the images of this rank and end the warm-up when it is over."""
        if self._tally is None:  # the loop does not call before_train_epoch
            return
        images = _count_images(data_batch)
        self._largest_batch = max(self._largest_batch, images)
        self._tally.images += images
        self._tally.iterations += 1
        epoch = self._epochs[-1]
        if self._tally is epoch.warm and epoch.warm.iterations == self.warmup:
            self._stop()
            self._tally = epoch.steady
        if self._since is None:  # also after a checkpoint was written in this iteration
            self._start()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Stop the clock until the checkpoint is written."""
        self._stop()

    def before_val(self, runner: Any) -> None:
        """Stop the clock: a loop over iterations validates within its epoch."""
        self._stop()

    def after_val(self, runner: Any) -> None:
        """Start the clock again, unless the epoch is over."""
        if self._tally is not None:
            self._start()

    def after_train_epoch(self, runner: Any) -> None:
        """Log the epoch and write all epochs so far."""
        self._stop()
        self._tally = None
        steady = self._epochs[-1].steady
        if steady.iterations:
            figures = steady.figures(runner.world_size)
            runner.message_hub.update_scalar('train/throughput', figures['images_per_second'])
            self._log(runner, figures, f'{self.warmup} warm-up iterations skipped')
        report = self._report(runner)
        if report is None or runner.rank != 0:
            return
        path = Path(runner.work_dir) / THROUGHPUT_FILE
        try:
            write_text(path, json.dumps(report, indent=2) + '\n', sync=False)
        except OSError as error:  # this must not end a training
            runner.logger.log(logging.ERROR, f'{path} could not be written: {error}')

    def after_train(self, runner: Any) -> None:
        """Log the result with warm-up if no epoch was long enough."""
        report = self._report(runner)
        if report is not None and not any(epoch.steady.iterations for epoch in self._epochs):
            why = f'warm-up included, as no epoch has more than {self.warmup} iterations'
            self._log(runner, report, why)

    def _report(self, runner: Any) -> dict[str, Any] | None:
        """Return the content of the file, or None if nothing was trained."""
        left_out = self.warmup if any(epoch.steady.iterations for epoch in self._epochs) else 0
        name = 'steady' if left_out or not self.warmup else 'warm'
        total, epochs = _Tally(), []
        for epoch in self._epochs:
            tally = getattr(epoch, name)
            if tally.iterations:
                total.add(tally)
                epochs.append({'epoch': epoch.number, **tally.figures(runner.world_size)})
        if not epochs:
            return None
        sampler = runner.train_dataloader.batch_sampler
        return {
            **total.figures(runner.world_size),
            'world_size': runner.world_size,
            'batch_size_per_card': getattr(sampler, 'batch_size', None) or self._largest_batch,
            'warmup_left_out': left_out,
            'device': get_device(),
            'epochs': epochs,
        }

    def _log(self, runner: Any, figures: Mapping[str, Any], note: str) -> None:
        runner.logger.info(
            f'Throughput: {figures["images_per_second"]:.1f} images/s ({figures["images"]} '
            f'images, {figures["iterations"]} iterations of '
            f'{figures["seconds_per_iteration"]:.4f} s, {runner.world_size} x {get_device()}; '
            f'{note})'
        )

    def _start(self) -> None:
        _synchronise()
        self._since = time.perf_counter()

    def _stop(self) -> None:
        if self._since is not None and self._tally is not None:
            _synchronise()
            self._tally.seconds += time.perf_counter() - self._since
        self._since = None


def _synchronise() -> None:
    """Wait until the device has finished its work. On the CPU this does nothing."""
    device = get_device()
    if device != 'cpu':
        getattr(torch, device).synchronize()


def _count_images(data_batch: Any) -> int:
    """Return the length of a batch: a dict of lists, a list of dicts, or a tensor."""
    while isinstance(data_batch, Mapping):
        data_batch = data_batch.get('inputs', next(iter(data_batch.values())))
    if isinstance(data_batch, tuple):  # collated tuples: inputs, targets
        data_batch = data_batch[0]
    return len(data_batch)
