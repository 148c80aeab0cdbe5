# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A training with its data loader, as tools/train.py runs it: speed and how busy the device is."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.hooks import Hook

from mmface.cli.train import build_config, parse_args
from mmface.engine.face_runner import FaceRunner
from mmface.utils.allocator import keep_freed_memory
from mmface_benchmark.device.busy import BusyTimer
from mmface_benchmark.device.settings import Settings
from mmface_benchmark.device.syncs import sync_places
from mmface_benchmark.imports import repeat_labels

#: Share of the time that the device should work.
TARGET = 0.9


class Training(NamedTuple):
    """A training to measure.

    Attributes:
        config: Name of a config.
        precision: 'fp32', 'o1' or 'o2'.
        batch_size: Images.
        workers: Processes that load.
        warm: Iterations that are not measured.
        timed: Iterations after them, for the speed.
        traced: Iterations after them, for the time of the kernels.
        counted: Iterations after them, for the waits.
    """

    config: str
    precision: str
    batch_size: int
    workers: int
    # Each worker loads two batches while the first iteration is slow. They are used up first.
    warm: int = 50
    timed: int = 50
    traced: int = 10
    counted: int = 10

    @property
    def iterations(self) -> int:
        """Number of all iterations."""
        return self.warm + self.timed + self.traced + self.counted


def run(settings: Settings) -> None:
    """Train some iterations and save speed, busy share and waits."""
    keep_freed_memory()
    workers = min(16, os.cpu_count() or 1)
    full = [
        Training('scrfd_10g', precision, batch_size, workers)
        for precision, batch_size in (('o2', 32), ('o2', 128))
    ]
    quick = [Training('scrfd_500m_bnkps', 'fp32', 2, 2, 2, 2, 2, 2)]
    settings.save('target', TARGET)
    for training in settings.pick(full, quick):
        name = f'{training.precision}, batch {training.batch_size}'
        settings.part(name, partial(train, training, settings))


def train(training: Training, settings: Settings) -> dict[str, Any]:
    """Train one epoch with the real loop and all hooks. Return what was measured."""
    name = f'train_{training.precision}_{training.batch_size}'
    images = training.batch_size * training.iterations
    options = [
        f'train_dataloader.num_workers={training.workers}',
        f'train_dataloader.batch_size={training.batch_size}',
        'log_level=WARNING',
    ]
    if settings.quick:
        options += [
            'train_dataloader.dataset.pipeline.2.size=64',
            'model.data_preprocessor.pad_size=(64,64)',
        ]
    args = parse_args(
        [
            *(training.config, '--precision', training.precision, '--num-epochs', '1'),
            *('--data-path', str(long_set(settings.data, settings.work / f'data_{name}', images))),
            *('--work-dir', str(settings.work / name), '--no-validate', '--seed', '0'),
            *('--cfg-options', *options),
        ]
    )
    runner = FaceRunner.from_cfg(build_config(args))
    meter = MeterHook(training, settings)
    runner.register_hook(meter, priority='LOWEST')
    runner.train()
    busy = meter.timer.busy / training.traced
    return {
        **training._asdict(),
        'images_per_second': training.batch_size * training.timed / meter.seconds,
        # The tracer slows down the host, so the time without it is used.
        'busy_share': min(1.0, busy * training.timed / meter.seconds),
        'busy_share_while_traced': meter.timer.busy / meter.timer.wall,
        'waiting_for_data_share': meter.data_seconds / meter.seconds,
        'waits_per_iteration': len(meter.places) / training.counted,
        'places': dict(Counter(meter.places)),
    }


class MeterHook(Hook):
    """Measure three windows of iterations after a warm-up: speed, busy share, waits.

    Args:
        training: Its number of iterations for each.
        settings: Of the section.
    """

    def __init__(self, training: Training, settings: Settings) -> None:
        self.ends = list(
            accumulate((training.warm, training.timed, training.traced, training.counted))
        )
        self.settings = settings
        self.timer = BusyTimer(settings.device)
        self.places: list[str] = []
        self.seconds = self.data_seconds = 0.0
        self._since = self._waits_since = 0.0
        self._stack = ExitStack()

    def before_train_epoch(self, runner: Any) -> None:
        """Start to wait for the first batch."""
        self._waits_since = time.perf_counter()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Count the time until the batch was there."""
        if self.ends[0] <= batch_idx < self.ends[1]:
            self.data_seconds += time.perf_counter() - self._waits_since

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """End a window after its last iteration and start the next one."""
        done = batch_idx + 1
        if done == self.ends[0]:
            self.settings.wait()
            self._since = time.perf_counter()
        if done == self.ends[1]:
            self.settings.wait()
            self.seconds = time.perf_counter() - self._since
            self.timer.start()
        if done == self.ends[2]:
            self.timer.stop()
            self.places = self._stack.enter_context(sync_places())
        if done == self.ends[3]:
            self._stack.close()
        self._waits_since = time.perf_counter()


def long_set(source: Path, target: Path, count: int) -> Path:
    """Make a data set whose training part has ``count`` entries, which are those of another."""
    (target / 'train').mkdir(parents=True, exist_ok=True)
    labels = target / 'train' / 'labelv2.txt'
    repeat_labels(source / 'train/labelv2.txt', source / 'train/images', labels, count)
    if not (target / 'val').exists():
        (target / 'val').symlink_to((source / 'val').resolve())
    return target
