# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A sample order computed from (seed, epoch) that can start anywhere in an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
from mmdet.registry import DATA_SAMPLERS
from mmengine.dist import get_dist_info, sync_random_seed
from numpy.typing import NDArray
from torch.utils.data import Sampler

from mmface.utils.epoch_index import EpochIndex


@DATA_SAMPLERS.register_module()
class EpochIndexSampler(Sampler[int]):
    """Yield every index once per epoch, as an ``EpochIndex``.

    The order is a function of (seed, epoch). Rank r of w takes the positions r, r + w, ...
    of it. The transform ``SeedSample`` reads seed and epoch from the index.

    Args:
        dataset: Any object with a length.
        shuffle: Whether to permute the indices, differently in every epoch.
        seed: Seed, the same on all ranks. If None, one is drawn and shared. The training
            loop overwrites it with the seed of the run.
        round_up: Whether to repeat the first indices so that all ranks get the same number.

    Raises:
        ValueError: The data set is empty.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        """Initialize the sampler; see the class."""
        self.dataset = dataset
        self.length = len(dataset)
        if self.length == 0:
            raise ValueError(
                'the data set is empty: expected at least one image; check the label file, '
                'the filters and the part list of the config'
            )
        self.rank, self.world_size = get_dist_info()
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.round_up = round_up
        self.epoch = 0
        self._start = 0

    def __len__(self) -> int:
        """Return the number of indices of this rank in a whole epoch, wherever it starts."""
        if self.round_up:
            return -(-self.length // self.world_size)
        return -(-(self.length - self.rank) // self.world_size)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the rest of the epoch. The next call starts at the beginning."""
        order: NDArray[np.signedinteger] = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        if self.round_up:
            order = np.resize(order, len(self) * self.world_size)
        mine = order[self.rank :: self.world_size][self._start :]
        self._start = 0
        seed, epoch = self.seed, self.epoch
        return (EpochIndex(index, epoch, seed) for index in mine)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def start_at(self, position: int) -> None:
        """Skip the first ``position`` indices of this rank in the next iteration."""
        self._start = position
