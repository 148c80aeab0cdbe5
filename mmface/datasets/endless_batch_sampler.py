# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""An endless sequence of batches, for training loops that count iterations."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from mmdet.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler

from mmface.datasets.samplers import EpochIndexSampler


@DATA_SAMPLERS.register_module()
class EndlessBatchSampler(BatchSampler):
    """Full batches from one epoch of the sampler after another.

    As in the reference (detectron2's ``TrainingSampler`` and ``AspectRatioGroupedDataset``), the
    end of an epoch has no effect on batches: no batch is smaller, and an image that waits for its
    batch joins a batch of the next epoch. Use it with ``ResumableIterTrainLoop``. A loop over
    epochs would never end its first epoch.

    Args:
        sampler: Yields the images of one epoch.
        batch_size: Images in a batch.
        by_shape: Whether wide images and all other images form separate batches. The items of
            the data set must then have ``width`` and ``height``.

    Raises:
        ValueError: The sampler is of another type, or the batch size is not positive.
    """

    sampler: EpochIndexSampler  # type: ignore[assignment]

    def __init__(self, sampler: EpochIndexSampler, batch_size: int, by_shape: bool = False) -> None:
        if not isinstance(sampler, EpochIndexSampler):
            raise ValueError(
                "EndlessBatchSampler needs sampler=dict(type='EpochIndexSampler'), found "
                f'{type(sampler).__name__}'
            )
        if batch_size < 1:
            raise ValueError(f'batch_size: expected at least 1, found {batch_size}')
        self.sampler = sampler
        self.batch_size = batch_size
        self.by_shape = by_shape
        self._start = 0
        self._wide: dict[int, bool] = {}

    def __len__(self) -> int:
        """Return the number of batches in which every image occurs about once."""
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate without end. The next call starts at the beginning."""
        left_out, self._start = self._start, 0
        waiting: dict[bool, list[int]] = {False: [], True: []}
        for epoch in count():
            self.sampler.set_epoch(epoch)
            for index in self.sampler:
                batch = waiting[self.by_shape and self._is_wide(index)]
                batch.append(index)
                if len(batch) < self.batch_size:
                    continue
                if left_out:
                    left_out -= 1
                else:
                    yield list(batch)
                batch.clear()

    def start_at(self, position: int) -> None:
        """Skip the first ``position`` batches in the next iteration."""
        self._start = position

    def _is_wide(self, index: int) -> bool:
        key = int(index)
        if key not in self._wide:
            item = self.sampler.dataset.get_data_info(key)  # type: ignore[attr-defined]
            self._wide[key] = item['width'] > item['height']
        return self._wide[key]
