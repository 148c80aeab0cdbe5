# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Restore the statistics of folded batch norms before the first training step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import EMAHook, Hook

from mmface.utils.epoch_index import EpochIndex
from mmface.weights.folded_norms import FOLDED, NUM_IMAGES, folded_norms, restore_statistics


@HOOKS.register_module()
class NormStatisticsHook(Hook):
    """Measure the statistics of norms that came folded, on the training data.

    Weights from ``load_from`` or ``init_cfg`` may have batch norms that only add a bias, because
    an exporter folded them. Training from such weights destroys them: see
    :mod:`mmface.weights.folded_norms`, which also says how the statistics are restored without
    changing the evaluated function. This happens once, before the first step of a run. A resumed
    run has real statistics. A run without folded norms is not changed by a single bit.

    Rank 0 measures, the other ranks receive its values. An EMA of the weights begins with them too.

    Args:
        num_images: Number of training samples, spread evenly over the data set. All random draws
            of their augmentation are those of epoch 0 of the run.
    """

    # Before all hooks that read the weights when a training starts.
    priority = 'VERY_HIGH'

    def __init__(self, num_images: int = NUM_IMAGES) -> None:
        self.num_images = num_images
        self._marked: list[str] = []

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Remember which norms the checkpoint says are folded."""
        meta = checkpoint.get('meta')
        names = meta.get(FOLDED) if isinstance(meta, dict) else None
        if isinstance(names, (list, tuple)):
            self._marked = [str(name) for name in names]

    def before_train(self, runner: Any) -> None:
        """Restore the statistics if the model has folded norms."""
        if runner.iter:  # resumed
            return
        model = getattr(runner.model, 'module', runner.model)
        names = folded_norms(model.state_dict(), self._marked)
        if not names:
            return
        if is_main_process():
            with _random_state_kept(), torch.no_grad():
                left = restore_statistics(model, names, self._batches(runner, model))
            runner.logger.info(
                f'{len(names) - len(left)} of {len(names)} batch norms are folded (identities): '
                f'their statistics were measured on {self._count(runner)} training images; the '
                'evaluated function is unchanged'
            )
            if left:
                runner.logger.warning(
                    f'{len(left)} folded batch norms got no input, the first is {left[0]}'
                )
        for name in names:
            for value in model.get_submodule(name).state_dict().values():
                broadcast(value)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                self._copy(model, hook.ema_model.module, names)

    @staticmethod
    def _copy(source: torch.nn.Module, target: torch.nn.Module, names: list[str]) -> None:
        for name in names:
            target.get_submodule(name).load_state_dict(source.get_submodule(name).state_dict())

    def _count(self, runner: Any) -> int:
        return min(self.num_images, len(runner.train_dataloader.dataset))

    def _batches(self, runner: Any, model: Any) -> Iterator[Any]:
        """Yield preprocessed batches of training samples."""
        loader = runner.train_dataloader
        total, count = len(loader.dataset), self._count(runner)
        seed = runner.seed or 0
        chosen = [EpochIndex(i * total // count, 0, seed) for i in range(count)]
        size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 1)
        for start in range(0, count, size):
            samples = [loader.dataset[index] for index in chosen[start : start + size]]
            yield model.data_preprocessor(loader.collate_fn(samples))


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Leave the generators of this process as they are."""
    ours, theirs = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(theirs)
