# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Images per second of a training, measured in one place."""

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

#: The file the hook leaves in the work dir.
THROUGHPUT_FILE = 'throughput.json'


@dataclass
class _Tally:
    """What was counted on this rank while the clock ran."""

    iterations: int = 0
    images: int = 0
    seconds: float = 0.0

    def add(self, other: _Tally) -> None:
        self.iterations += other.iterations
        self.images += other.images
        self.seconds += other.seconds

    def figures(self, world_size: int) -> dict[str, Any]:
        """Give the numbers of all ranks together; seconds are wall time."""
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
    """One epoch: its first iterations and those that count."""

    number: int
    warm: _Tally = field(default_factory=_Tally)
    steady: _Tally = field(default_factory=_Tally)


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Measure the throughput of a training: ranks x images of one rank / wall time.

    Loading the data, every hook and the logging are included; validation and the writing of
    checkpoints are not. The first iterations of each epoch are left out: they start the
    workers and, once, compile or choose kernels. The images are counted, so a smaller last
    batch counts as what it is; with accumulated gradients an iteration is one batch, not one
    update. The device is waited for at both ends of a measured stretch and nowhere else.

    After each epoch there is a line in the log, the scalar ``train/throughput`` (images/s)
    and, written by rank 0, ``throughput.json`` in the work dir:

    * ``images_per_second``, ``seconds_per_iteration``, ``iterations``, ``images``,
      ``seconds``: of all epochs together; ``epochs``: the same of each, with its number;
    * ``world_size``, ``batch_size_per_card``, ``device``;
    * ``warmup_left_out``: iterations left out of each epoch. An epoch that has no more than
      these gives no figure. If no epoch has more, all their iterations count and this is 0.

    The figures are final: world size and batch size are in them. They are those of one
    process: a resumed run counts anew. A loop over iterations is one long epoch.

    Args:
        warmup: Iterations to leave out at the beginning of each epoch.

    Raises:
        ValueError: ``warmup`` is negative.
    """

    # After the checkpoint hook, so that an iteration's end is seen when its file is written.
    priority = 'LOWEST'

    def __init__(self, warmup: int = 5) -> None:
        if warmup < 0:
            raise ValueError(f'warmup must be 0 or more iterations, not {warmup}')
        self.warmup = warmup
        self._epochs: list[_Epoch] = []
        self._tally: _Tally | None = None  # None: between epochs
        self._since: float | None = None  # None: the clock stands
        self._largest_batch = 0

    def before_train(self, runner: Any) -> None:
        """Forget an earlier training."""
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
        """Count the images of this rank; end the warm-up."""
        if self._tally is None:  # a loop of another kind
            return
        images = _count_images(data_batch)
        self._largest_batch = max(self._largest_batch, images)
        self._tally.images += images
        self._tally.iterations += 1
        epoch = self._epochs[-1]
        if self._tally is epoch.warm and epoch.warm.iterations == self.warmup:
            self._stop()
            self._tally = epoch.steady
        if self._since is None:  # or a checkpoint was written in this iteration
            self._start()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Stop the clock until the checkpoint is written."""
        self._stop()

    def before_val(self, runner: Any) -> None:
        """Stop the clock: a loop over iterations validates in the middle."""
        self._stop()

    def after_val(self, runner: Any) -> None:
        """Go on, unless the epoch is over."""
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
            self._log(runner, figures, f'{self.warmup} iterations left out as warm-up')
        report = self._report(runner)
        if report is None or runner.rank != 0:
            return
        path = Path(runner.work_dir) / THROUGHPUT_FILE
        try:
            write_text(path, json.dumps(report, indent=2) + '\n', sync=False)
        except OSError as error:  # no reason to lose a training
            runner.logger.log(logging.ERROR, f'{path} could not be written: {error}')

    def after_train(self, runner: Any) -> None:
        """Log what there is if no epoch was long enough for a warm-up."""
        report = self._report(runner)
        if report is not None and not any(epoch.steady.iterations for epoch in self._epochs):
            why = f'warm-up included, as no epoch has more than {self.warmup} iterations'
            self._log(runner, report, why)

    def _report(self, runner: Any) -> dict[str, Any] | None:
        """Give the content of the file; None if nothing was trained."""
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
    """Wait until the device has done all it was given; the CPU has nothing to wait for."""
    device = get_device()
    if device != 'cpu':
        getattr(torch, device).synchronize()


def _count_images(data_batch: Any) -> int:
    """Give the length of a batch: a dict of lists, a list of them, or a tensor."""
    while isinstance(data_batch, Mapping):
        data_batch = data_batch.get('inputs', next(iter(data_batch.values())))
    if isinstance(data_batch, tuple):  # collated tuples: inputs, targets
        data_batch = data_batch[0]
    return len(data_batch)
